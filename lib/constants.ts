/** Identifies this transport to Nest: `@EventPattern('orders', REDIS_STREAMS_TRANSPORT)` binds a handler to it alone. */
export const REDIS_STREAMS_TRANSPORT: unique symbol = Symbol.for(
  'nestjs-redis-streams:transport',
) as typeof REDIS_STREAMS_TRANSPORT;

/** Where a connection goes when neither an option nor `REDIS_URL` says otherwise. */
export const DEFAULT_REDIS_URL = 'redis://127.0.0.1:6379';

/** Prefix of the entry fields that hold headers; every other field belongs to the payload or to another writer. */
export const HEADER_PREFIX = 'h:';

/** Header that carries a record's key, so that an ordered handler knows which messages belong together. */
export const KEY_HEADER = 'key';

/** The largest sequence part that fits the 16 bits which {@link Receipt.sequence} gives it. */
export const MAX_SEQUENCE_IN_MILLISECOND = 0xffffn;

/** Largest `ms` part of an entry id that fits the 48 bits left beside the sequence. */
export const MAX_ID_MILLISECONDS = 0xffff_ffff_ffffn;

/** The stream id before every entry. */
export const ID_BEFORE_ALL = '0-0';
