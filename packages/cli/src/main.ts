#!/usr/bin/env node
import { EXIT } from './failure.js';
import { runTool } from './program.js';

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // The reader has closed the pipe, as `head` does.
  if (error.code === 'EPIPE') process.exit(EXIT.done);
  throw error;
});
process.exitCode = await runTool(process.argv.slice(2));
