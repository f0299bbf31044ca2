import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** Starts a nats-server with JetStream and a folder of its own. Both are removed when this process ends or fails. */
export async function startServer() {
  const folder = mkdtempSync(join(tmpdir(), 'bench-nats-'));
  const args = ['--addr', '127.0.0.1', '--port', '-1', '--jetstream', '--store_dir', folder];
  const server = spawn('nats-server', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  process.once('exit', () => {
    server.kill('SIGKILL');
    // The server may create a file until the signal arrives.
    rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 });
  });
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
  const address = await addressOf(server);
  return {
    address,
    async stop() {
      server.kill('SIGKILL');
      await once(server, 'exit');
    },
  };
}

/** @returns {Promise<string>} */
function addressOf(server) {
  return new Promise((resolve, reject) => {
    let address;
    server.once('error', reject);
    server.once('exit', (code) => reject(new Error(`nats-server ended with ${code}`)));
    createInterface({ input: server.stderr }).on('line', (line) => {
      address ??= /client connections on (\S+)/.exec(line)?.[1];
      if (line.includes('Server is ready')) resolve(address);
    });
  });
}
