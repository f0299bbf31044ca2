import { InvalidOptionError } from '../../errors.js';
import { hashTagOf } from '../connection/hash-slot.js';

/** What is kept beside a stream or one of its shards, and the feature that needs it. */
const FEATURES = Object.freeze({
  /** The batches that a producer has sent lately. */
  producer: "delivery 'exactly-once'",
  /** The first send with an id that the caller gave. */
  dedup: 'deduplication',
  /** When each delayed message is due, their contents, and those of late that wait no longer. */
  delayed: 'delayed messages',
  waiting: 'delayed messages',
  moved: 'delayed messages',
  /** Written behind a batch that may be stored already, so that there is something for its replicas to confirm. */
  replicas: 'waitReplicas',
  /** The messages that a group has handled. */
  handled: 'an inbox',
  /** The live consumer that has a name in a group. */
  name: 'noticing a consumer name that is used twice',
  /** Who owns a shard in a group, who owned it last, and who asks for it. */
  lease: "shardOwnership 'owned'",
  generation: "shardOwnership 'owned'",
  wanted: "shardOwnership 'owned'",
  /** The consumers of a group that share its shards, and how many each of them owns. */
  members: "shardOwnership 'owned'",
  shares: "shardOwnership 'owned'",
  /** How many shards the stream has, and had. */
  layout: 'setShards()',
  /** How many messages a group has handled in a span of time. */
  rate: "a rateLimit with scope 'group'",
  /** That a group is paused. */
  paused: 'pausing a group',
  /** The requests that a client has given up, beside its reply stream. */
  cancelled: 'the cancellation of requests',
});

/** How the keys begin, after the prefix of the connection. */
export const SIDE_KEY_PREFIX = 'nrs:';

export type SideKeyKind = keyof typeof FEATURES;

/**
 * The key of data beside a stream or one of its shards, in the same slot. It does not begin with the stream's key:
 * programs that look for shards take `<stream>:*` for them. The whole key follows the kind, because two streams may share a
 * hash tag.
 *
 * The parts are ids and names of the application. Of `{shop}:orders` and `{shop}:orders:eu`, the one with the id `eu:17` and the
 * other with `17` would have the same name, so a colon in a part is written as `%3A` wherever it could be taken for the end of
 * what stands before it: of a key that may share its tag, or of another part.
 *
 * The rule for braces is the same with and without Cluster, so that a stream can move there.
 * @param key with its prefix
 * @throws InvalidOptionError for a key with braces that are no hash tag: its slot follows from the whole key, which cannot
 * be written as a tag
 */
export function sideKey(keyPrefix: string, kind: SideKeyKind, key: string, ...parts: readonly string[]): string {
  const tag = hashTagOf(key);
  const last = tag === undefined ? parts.length - 1 : -1;
  const written = parts.map((part, index) => (index === last ? part : part.replace(/[%:]/g, encodeURIComponent)));
  const name = [`${keyPrefix}${SIDE_KEY_PREFIX}{${tag ?? key}}`, kind, key, ...written].join(':');
  // A prefix with an opening brace begins another tag.
  const isInSlot = hashTagOf(name) === (tag ?? key) && (tag !== undefined || !/[{}]/.test(key));
  if (isInSlot) return name;
  const rule = `(with its keyPrefix) must have no braces or a valid hash tag, such as '{orders}', for ${FEATURES[kind]}`;
  throw new InvalidOptionError('streamKey', rule, key);
}
