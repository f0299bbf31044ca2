import type { RedisStreamsConnection } from '../../lib/index.js';

/** What the process of a consumer reads: the shards of {@link STREAM}. */
export interface ConsumerSetting {
  readonly connection: RedisStreamsConnection;
  readonly shards: number;
  readonly mode: string;
  readonly shardOwnership?: 'shared' | 'owned';
  readonly batchSize?: number | undefined;
}

export interface ConsumerReport {
  readonly count: number;
  /** Milliseconds since 1970 when the last message came. */
  readonly lastAt: number;
  /** Microseconds of this process. */
  readonly cpu: number;
  /** Milliseconds from `enqueue` to the message, for streams that are busy and for the others. */
  readonly busy: Quantiles;
  readonly quiet: Quantiles;
}

interface Quantiles {
  readonly p50: number;
  readonly p99: number;
}

/** A shard that the consumer owns from then on, or no more. */
export interface Move {
  readonly change: 'assigned' | 'revoked';
  readonly shard: number;
  /** Milliseconds since 1970. */
  readonly at: number;
}

/** `hold` lets messages wait until `start`, `reset` counts from then on; `end` has no answer, the process exits. */
export type Question = 'open' | 'hold' | 'start' | 'reset' | 'report' | 'end';
export type Answer = { readonly report: ConsumerReport } | { readonly move: Move };

export const STREAM = 'bench';

export function now(): number {
  return performance.timeOrigin + performance.now();
}
