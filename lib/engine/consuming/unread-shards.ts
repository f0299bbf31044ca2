import { UnreadShardsError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import type { StreamLayouts } from '../../redis/commands/layouts.js';
import { errorText } from '../../shared/error-text.js';
import type { ResolvedConsumerOptions } from '../options/resolve-options.js';
import type { ConsumerEnvironment } from './consumer-environment.js';

type ShardOptions = Pick<ResolvedConsumerOptions, 'shards' | 'shardDiscoveryInterval'>;

/** The part of a session that {@link lookForUnreadShards} needs. */
export interface UnreadShardsLook {
  readonly environment: Pick<ConsumerEnvironment, 'control' | 'logger'>;
  readonly options: ResolvedConsumerOptions;
}

/**
 * For a consumer that reads all shards of its streams, and a stream whose number of shards was never set: undefined unless producers with
 * keys send to shards that the options of the consumer leave out.
 */
export function unreadShards(
  streamKey: string,
  { layouts, pending, givenShards }: StreamLayouts,
  { shards, shardDiscoveryInterval }: ShardOptions,
): UnreadShardsError | undefined {
  const looksForShards = shards === undefined && shardDiscoveryInterval !== false;
  if (looksForShards || layouts.length > 0 || pending) return undefined;
  const read = new Set(shards);
  const numbers = Array.from({ length: givenShards }, (_, shardId) => shardId);
  if (numbers.every((shardId) => read.has(shardId))) return undefined;
  const advice = `its producers have ${givenShards} shards: set shards to ${givenShards} in all consumers of the group`;
  return new UnreadShardsError(streamKey, 0, givenShards - 1, advice);
}

/**
 * Looks once whether setShards() has given a stream shards of which a consumer with given shards reads none. Consumers that share may
 * have different ones. Never rejects: the user may not be permitted to look.
 */
export async function lookForUnreadShards(
  streamKeys: readonly string[],
  { environment, options }: UnreadShardsLook,
  onError: (error: RedisStreamsError) => void,
): Promise<void> {
  const { shards, shardOwnership } = options;
  if (!shards || shardOwnership === 'owned') return;
  for (const streamKey of streamKeys) {
    try {
      const layout = (await environment.control.layouts.look(streamKey)).layouts.at(-1);
      if (!layout) continue;
      const { first } = layout;
      const last = first + layout.shards - 1;
      if (shards.some((shardId) => shardId >= first && shardId <= last)) continue;
      onError(new UnreadShardsError(streamKey, first, last, 'they were set by setShards(): look for shards'));
    } catch (error) {
      environment.logger.debug(`The number of shards of '${streamKey}' cannot be read: ${errorText(error)}`);
    }
  }
}
