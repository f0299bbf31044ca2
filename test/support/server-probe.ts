import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

const PROBE_TIMEOUT = 1_000;
const PROBE_INTERVAL = 20;

/** Probes this address until a server answers PING, the limit has passed, or `hasFailed` returns true. */
export async function untilAnswering(
  host: string,
  port: number,
  limit: number,
  hasFailed: () => boolean = () => false,
): Promise<boolean> {
  const deadline = Date.now() + limit;
  while (!hasFailed()) {
    if (await isAnswering(host, port)) return true;
    if (Date.now() >= deadline) return false;
    await pause(PROBE_INTERVAL);
  }
  return false;
}

/** True for any reply except `-LOADING`: a server that asks for a password is up as well. */
function isAnswering(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const settle = (isUp: boolean) => {
      socket.destroy();
      resolve(isUp);
    };
    socket.setTimeout(PROBE_TIMEOUT, () => settle(false));
    socket.once('error', () => settle(false));
    socket.once('close', () => settle(false));
    socket.once('connect', () => socket.write('PING\r\n'));
    socket.once('data', (reply) => settle(!reply.toString('latin1').startsWith('-LOADING')));
  });
}
