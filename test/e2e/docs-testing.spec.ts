import { expect, it } from '@jest/globals';

import { programsOf, useDocumentPrograms } from '../support/document-programs.js';

const run = useDocumentPrograms();
/** No server listens there: a program that needs one fails. */
const NOWHERE = { REDIS_URL: 'redis://127.0.0.1:1' };

it.each(programsOf('docs/testing.md'))('the tests at $title pass without a Redis', async (program) => {
  const output = await run(program, NOWHERE);

  expect(output).toMatch(/pass [1-9]/);
  expect(output).toMatch(/fail 0/);
});
