import { createServer } from 'node:net';

// Below the range from which systems pick the port of an outgoing connection (32768 and up on Linux). A
// port from that range can be taken while its server is down, even by the very client that keeps trying to
// reach it, for a connection to one's own port succeeds; the restart on the same port would then fail.
const FIRST_PORT = 20_000;
const LAST_PORT = 32_000;
const EPHEMERAL_PORT = 32_768;

/** @param offset if given, the port that is so much higher is free as well */
export async function freePort(offset = 0): Promise<number> {
  const limit = offset > 0 ? EPHEMERAL_PORT - offset : LAST_PORT;
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = FIRST_PORT + Math.floor(Math.random() * (limit - FIRST_PORT));
    if ((await isFree(port)) && (offset === 0 || (await isFree(port + offset)))) return port;
  }
  throw new Error(`no free port found between ${FIRST_PORT} and ${limit}`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
