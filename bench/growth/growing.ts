import type { Cluster, Redis } from 'ioredis';

import { connectionOf, keyOf, openClient } from '../contenders/setting.js';
import { RedisStreamer } from '../library.js';
import type { Contender, Entrant, Metric, Row, Setting, Target, Work } from '../row.js';

/** Environment variable with the largest size of a series, where it is not {@link DEFAULT_LARGEST}. */
export const LARGEST_VARIABLE = 'BENCH_GROWTH_LARGEST';
/** More need some GiB of memory. */
const DEFAULT_LARGEST = 1_000_000;

/** A cost up to this multiple of the cost of the smallest size counts as flat. */
const FLAT = 1.1;

/** What one size of a series works with. */
interface Place {
  readonly setting: Setting;
  readonly redis: Redis | Cluster;
  readonly streamer: RedisStreamer;
  readonly size: number;
}

interface Series extends Pick<Row, 'title' | 'note' | 'rounds' | 'warmUps'> {
  readonly sizes: readonly number[];
  readonly unit: string;
  /** Whether a trial run has smaller sizes, not only fewer messages. */
  readonly isScaled: boolean;
  /** Default: messages a second. */
  readonly rate?: Metric;
  /** Done once for each size, before the rounds of any. */
  setUp?(setting: Setting, size: number): Promise<void>;
  open(place: Place): Promise<Omit<Contender, 'close'>>;
}

/** A row in which only a size grows; its baseline is the smallest one. Messages must not cost more CPU, and bytes must not take longer. */
export function growthRow({ sizes: all, unit, isScaled, rate = 'rate', setUp, open, ...described }: Series): Row {
  const largest = Number(process.env[LARGEST_VARIABLE] ?? DEFAULT_LARGEST);
  const sizes = all.filter((size, index) => index === 0 || size <= largest);
  const nameOf = (size: number): string => `${size.toLocaleString('en')} ${unit}`;
  const sizeOf = (size: number, setting: Setting): number => (isScaled ? scaled(size, setting) : size);
  const isFlat = (size: number): Target[] => {
    const entrant = nameOf(size);
    if (rate === 'byteRate') return [{ entrant, metric: rate, atLeast: 1 / FLAT }];
    return [
      { entrant, metric: 'cpu', atMost: FLAT },
      { entrant, metric: 'serverCpu', atMost: FLAT },
    ];
  };
  return {
    rounds: 5,
    ...described,
    metrics: [rate, 'cpu', 'serverCpu'],
    baseline: nameOf(sizes[0] as number),
    entrants: sizes.map((size) => ({
      name: nameOf(size),
      open: (setting) => openAt(setting, sizeOf(size, setting), open),
    })),
    targets: sizes.slice(1).flatMap(isFlat),
    ...(setUp && {
      async setUp(setting) {
        for (const size of sizes) await setUp(setting, sizeOf(size, setting));
      },
    }),
  };
}

/** Of a trial run: fewer, but not none. */
export function scaled(count: number, { scale }: Setting): number {
  return Math.max(1, Math.round(count * scale));
}

/** The key of the stream of one size. */
export function streamOf(setting: Setting, name: string, size: number): string {
  return keyOf(setting, `growth-${name}-${size}`);
}

async function openAt(setting: Setting, size: number, open: Series['open']): ReturnType<Entrant['open']> {
  const redis = openClient(setting);
  const streamer = await RedisStreamer.connect(connectionOf(setting));
  const contender = await open({ setting, redis, streamer, size });
  return {
    ...contender,
    async work(): Promise<Work> {
      const before = await serverCpu(redis);
      const work = await contender.work();
      return { ...work, serverCpu: (await serverCpu(redis)) - before };
    },
    async close() {
      await streamer.disconnect();
      await redis.quit();
    },
  };
}

/** Milliseconds of CPU that the server, or all masters, have used since their start. */
async function serverCpu(redis: Redis | Cluster): Promise<number> {
  const nodes = 'nodes' in redis ? redis.nodes('master') : [redis];
  const infos = await Promise.all(nodes.map((node) => node.info('cpu')));
  const times = infos.flatMap((info) => [...info.matchAll(/^used_cpu_(?:user|sys):(\S+)/gm)].map(([, time]) => time));
  return times.reduce((sum, time) => sum + Number(time), 0) * 1_000;
}
