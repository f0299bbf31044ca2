import { expect, it } from '@jest/globals';

import { programsOf, useDocumentPrograms } from '../support/document-programs.js';
import { useStreams } from '../support/streams.js';

const run = useDocumentPrograms();
// Each test begins with an empty database.
const streams = useStreams();
/** Not every block of this page is a program; one that shows its output is. */
const operations = programsOf('docs/operations.md').filter(({ output }) => output !== undefined);

it.each([...programsOf('docs/engine.md'), ...operations])(
  'the program at $title prints what the page says',
  async (program) => {
    const output = await run(program, { REDIS_URL: streams.url });

    expect(program.output).toBeDefined();
    expect(output).toBe(program.output);
  },
);
