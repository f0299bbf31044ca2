import { connect, createServer } from 'node:net';

// Below the range from which systems pick the port of an outgoing connection (32768 and up on Linux). While a server is
// down, an outgoing connection can take a port of that range, even one of the client that tries to reach the server (a
// connection to its own port succeeds). The restart on the same port would then fail.
const FIRST_PORT = 20_000;
const LAST_PORT = 32_000;
const EPHEMERAL_PORT = 32_768;

/** @param offset if given, the port `offset` above the returned one is free as well */
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

/** Whether a server accepts connections on this port of loopback. */
export function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('error', () => resolve(false));
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}
