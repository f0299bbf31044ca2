// Runs one Redis server for a parent process and cleans up after the parent has exited.
//
// Its standard input is a pipe from the parent, and no other process holds the other end. The pipe closes however the
// parent ends, SIGKILL included; the end of input is the signal to kill the server and remove the directory. This file
// is plain JavaScript, because it is run by Node alone.
//
// Input, one JSON value per line; each starts a server, after the previous one has exited: [program, ...args]
// Output: { "dir": path } once, then for each server { "pid": n } or { "failed": reason }, and { "exit": how }.
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const givenDirectory = process.argv[2];
const directory = givenDirectory ?? mkdtempSync(join(tmpdir(), 'redis-server-'));

/** @type {import('node:child_process').ChildProcess | undefined} */
let server;
let isLeaving = false;

/** @param {Record<string, unknown>} event */
const emit = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
// The parent no longer reads. The end of input follows, and that triggers the clean-up.
process.stdout.on('error', () => undefined);

/** @param {[string, ...string[]]} command */
function start([program, ...args]) {
  const log = openSync(join(directory, 'server.log'), 'a');
  const child = spawn(program, args, { cwd: directory, stdio: ['ignore', log, log] });
  closeSync(log);
  child.once('spawn', () => emit({ pid: child.pid }));
  child.once('error', (error) => {
    server = undefined;
    if (isLeaving) finish();
    else emit({ failed: error.message });
  });
  child.once('exit', (code, signal) => {
    server = undefined;
    if (isLeaving) finish();
    else emit({ exit: signal ?? `code ${code}` });
  });
  server = child;
}

function leave() {
  if (isLeaving) return;
  isLeaving = true;
  // SIGKILL also ends a suspended process. The directory is removed after the exit, when the server can no longer
  // write.
  if (server) server.kill('SIGKILL');
  else finish();
}

function finish() {
  if (!givenDirectory) rmSync(directory, { recursive: true, force: true });
  process.exit();
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, leave);
createInterface({ input: process.stdin })
  .on('line', (line) => start(JSON.parse(line)))
  .on('close', leave);
emit({ dir: directory });
