import { setTimeout as pause } from 'node:timers/promises';

import type { FaultProxy } from './fault-proxy.js';
import { until } from './until.js';

type Cut = (proxy: FaultProxy, round: number) => Promise<void> | void;

/** Long enough for some replies to be on their way at each moment. */
const DELAY = 25;

/** Every way in which a connection ends, or seems to go on and does not. */
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
    // What is late must not arrive behind what is not.
    proxy.cut('rst');
  },
  // The server goes on serving readers that are gone.
  (proxy) => proxy.abandon('reader'),
  (proxy) => proxy.abandon('writer'),
];

/** Half-open for as long as it takes somebody to notice. */
const stall: Cut = async (proxy) => {
  const { accepted } = proxy;
  proxy.stall();
  await until('the stall is noticed', () => proxy.accepted > accepted);
  proxy.flow();
  // Who is not reading would notice after ten seconds.
  proxy.cut('rst');
};

/** Causes all kinds of cuts in turn, several times, each while messages flow; returns how many. */
export async function cutInTurn(proxy: FaultProxy, rounds: number, flow: () => Promise<void>): Promise<number> {
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
