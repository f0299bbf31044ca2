import { expect, it } from '@jest/globals';

import { programsOf, useDocumentPrograms } from '../../support/document-programs.js';
import { useStreams } from '../../support/streams.js';

const run = useDocumentPrograms();
// Empties the database before each test.
const streams = useStreams();
/** Only the blocks of these pages that show their output are complete programs. */
const programs = ['docs/operations.md', 'docs/delayed-messages.md']
  .flatMap(programsOf)
  .filter(({ output }) => output !== undefined);

it.each([...programsOf('docs/engine.md'), ...programs])(
  'the program at $title prints the output that the page shows',
  async (program) => {
    const output = await run(program, { REDIS_URL: streams.url });

    expect(program.output).toBeDefined();
    expect(output).toBe(program.output);
  },
);
