// Runs one Redis server for another process and outlives it by a moment.
//
// Its standard input is a pipe from that process, and nothing else holds the other end. Whatever ends the
// process, SIGKILL included, closes the pipe; the end of input is the one signal to kill the server and to
// remove the directory. Plain JavaScript, because it is started with nothing but Node.
//
// In, one JSON per line, each starting a server when the one before has ended:   [program, ...args]
// Out:  { "dir": path } once, then { "pid": n } or { "failed": reason }, and { "exit": how } when it ends.
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
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
// Nobody reads any more: the end of input follows, and that is what counts.
process.stdout.on('error', () => undefined);

/** @param {[string, ...string[]]} command */
function start([program, ...args]) {
  const log = openSync(join(directory, 'server.log'), 'a');
  const child = spawn(program, args, { cwd: directory, stdio: ['ignore', log, log] });
  closeSync(log);
  child.once('spawn', () => say({ pid: child.pid }));
  child.once('error', (error) => {
    server = undefined;
    if (isLeaving) finish();
    else say({ failed: error.message });
  });
  child.once('exit', (code, signal) => {
    server = undefined;
    if (isLeaving) finish();
    else say({ exit: signal ?? `code ${code}` });
  });
  server = child;
}

function leave() {
  if (isLeaving) return;
  isLeaving = true;
  // SIGKILL ends a stopped process too; the directory goes when the server can no longer write to it.
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
say({ dir: directory });
