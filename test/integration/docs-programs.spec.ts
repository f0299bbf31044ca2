import { expect, it } from '@jest/globals';

import { programsOf, useDocumentPrograms } from '../support/document-programs.js';
import { useStreams } from '../support/streams.js';

const run = useDocumentPrograms();
// Each test begins with an empty database.
const streams = useStreams();

it.each([...programsOf('docs/engine.md'), ...programsOf('docs/operations.md')])('the program at $title prints what the page says', async (program) => {
  const output = await run(program, { REDIS_URL: streams.url });

  expect(program.output).toBeDefined();
  expect(output).toBe(program.output);
});
