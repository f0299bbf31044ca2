#!/usr/bin/env node
import { EXIT } from './failure.js';
import { Output } from './output.js';
import { runTool } from './program.js';

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // The reader has closed the pipe, as `head` does.
  if (error.code === 'EPIPE') process.exit(EXIT.done);
  throw error;
});
const warned = new Set<string>();
// ioredis warns here, and for each connection again: of a password that the server does not want, for one.
console.warn = (warning: unknown): void => {
  const text = String(warning).replace(/^\[\w+\] /, '');
  if (warned.has(text)) return;
  warned.add(text);
  void new Output({ isJson: false }).note(`nrs: ${text}`);
};
process.exitCode = await runTool(process.argv.slice(2));
