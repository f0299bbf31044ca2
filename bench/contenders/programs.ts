import { Redis } from 'ioredis';

import { PAYLOAD } from '../load.js';
import { programOf } from '../peers/build.js';
import type { PeerName } from '../peers/build.js';
import { PeerProcess } from '../peers/peer-process.js';
import type { Contender, Entrant } from '../row.js';
import { BACKLOG, restartGroup } from './backlog.js';
import { expectAcknowledged, expectAppended } from './checks.js';
import { keyOf } from './setting.js';

const MESSAGES = 200_000;
const PAGE = 1_000;

type Kind = 'append' | 'consume' | 'tail';

/** What its arguments tell a program. The group has the name of the peer. */
interface Job {
  readonly url: string;
  readonly key: string;
  readonly messages: number;
}

/** A client in C, see bench/peers/c. */
export function inC(name: string, kind: Kind): Entrant {
  return program(name, 'c', kind, ({ url, key, messages }) => {
    const { hostname, port } = new URL(url);
    return [kind, hostname, port, key, 'c', messages, PAGE, PAYLOAD.length];
  });
}

/** A program on the Rust reference, see bench/peers/rust. @param batch 0 for its default */
export function inRust(name: string, kind: Kind, row: string, batch = 0): Entrant {
  return program(name, 'rust', kind, ({ url, key, messages }) => [
    row,
    url,
    key,
    'rust',
    messages,
    batch,
    PAYLOAD.length,
  ]);
}

function program(name: string, peer: PeerName, kind: Kind, argumentsFor: (job: Job) => unknown[]): Entrant {
  return {
    name,
    isPeer: true,
    async open(setting) {
      const { url, scale } = setting;
      const key = keyOf(setting, kind === 'append' ? peer : BACKLOG.name);
      const messages = scale * (kind === 'append' ? MESSAGES : BACKLOG.messages);
      const process = await PeerProcess.start(programOf(peer), argumentsFor({ url, key, messages }).map(String));
      const redis = new Redis(url);
      return {
        ...betweenRounds(kind, redis, { url, key, messages }, peer),
        work: async () => ({ messages, program: await process.round() }),
        async close() {
          await process.close();
          await redis.quit();
        },
      };
    },
  };
}

function betweenRounds(
  kind: Kind,
  redis: Redis,
  { key, messages }: Job,
  group: string,
): Pick<Contender, 'reset' | 'check'> {
  switch (kind) {
    case 'append':
      return {
        reset: async () => void (await redis.del(key)),
        check: () => expectAppended(redis, [key], messages),
      };
    case 'consume':
      return {
        reset: () => restartGroup(redis, key, group),
        check: () => expectAcknowledged(redis, key, group),
      };
    case 'tail':
      return {};
  }
}
