import { setTimeout as pause } from 'node:timers/promises';

import type { FaultProxies } from './fault-proxies.js';
import { until } from './until.js';

type Cut = (proxy: FaultProxies, round: number) => Promise<void> | void;

/** Milliseconds; long enough that some replies are in flight at any moment. */
const DELAY = 25;

/** Every way in which a connection ends, or stays open without working. */
const CUTS: readonly Cut[] = [
  (proxy) => void proxy.cut('rst'),
  (proxy) => void proxy.cut('fin'),
  (proxy, round) => proxy.tearReply(40 * (round + 1), 'reader'),
  (proxy, round) => proxy.tearReply(9 * (round + 1), 'writer'),
  (proxy) => proxy.tearReply(1, 'control'),
  (proxy) => void proxy.cut('rst', 'reader'),
  (proxy) => void proxy.cut('fin', 'writer'),
  (proxy) => void proxy.cut('rst', 'control'),
  async (proxy) => {
    proxy.delay(DELAY);
    await pause(10 * DELAY);
    proxy.delay(0);
    // Delayed bytes must not arrive after bytes that were not delayed.
    proxy.cut('rst');
  },
  // The server continues to serve readers that are gone.
  (proxy) => proxy.abandon('reader'),
  (proxy) => proxy.abandon('writer'),
];

/** Half-open until a client detects it and reconnects. */
const stall: Cut = async (proxy) => {
  const { accepted } = proxy;
  proxy.stall();
  await until('a client has detected the stall and reconnected', () => proxy.accepted > accepted);
  proxy.unstall();
  // Connections that are not reading would detect the stall only after ten seconds.
  proxy.cut('rst');
};

/** Causes every kind of cut in turn, `rounds` times, each while messages flow; returns the number of cuts. */
export async function cutInTurn(proxy: FaultProxies, rounds: number, flow: () => Promise<void>): Promise<number> {
  let count = 0;
  for (let round = 0; round < rounds; round += 1) {
    for (const cut of [...CUTS, ...(round % 2 === 0 ? [stall] : [])]) {
      await cut(proxy, round);
      count += 1;
      await flow();
    }
  }
  return count;
}
