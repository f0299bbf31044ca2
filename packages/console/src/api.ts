/*
 * What the server of the console and its pages exchange, as JSON. Ids of entries are texts. Times are milliseconds since 1970: those of
 * entries by the clock of Redis, `at` and `now` of an update by the clock of the process that serves the console. What the server does not know, because a command is not permitted or too new, is null.
 *
 * The pages are `dist/web/index.html`, the answer of `GET <path>/` and of `GET <path>/<page>` for each of {@link PAGES}. All of its
 * URLs are relative, so it works under every prefix and behind proxies that remove one; `GET <path>` without the slash at its end is
 * therefore redirected to `<last segment of path>/`, relative too. `GET <path>/assets/<file>` answers the other files of `dist/web`,
 * which are `.js`, `.css` and `.svg`, have a hash in their name, and may be cached forever.
 */

/** What stands behind the path of the console in the URL of a page; everything else about it is in the query. */
export const PAGES = [
  'stream',
  'messages',
  'message',
  'dead-letters',
  'dead-letter',
  'delayed',
  'shards',
  'group',
  'health',
] as const;

/** `GET api/session`; with `view` ({@link View}) it fails where the live view would be refused, with the reason. */
export interface Session {
  readonly version: string;
  /** No button changes anything, and the server refuses every POST. */
  readonly readOnly: boolean;
  /** Payloads are part of the answers; otherwise only their sizes are. */
  readonly showPayloads: boolean;
  /** As it will stand in the log. */
  readonly user: string | null;
}

/**
 * What a viewer looks at: `GET api/live?view=<JSON>`, server-sent events. Each `update` replaces the one before; `failed`
 * ({@link Failure}) says why there is none now, and the next `update` that it is over; `renew` asks the page to open another
 * stream, for which the guards decide again, before this one ends; `gone` is the last event: the stream ends, or the application, whose
 * place another may take.
 */
export type View =
  | {
      readonly page: 'streams';
      readonly search?: string;
      readonly sort?: StreamOrder;
      readonly isDescending?: boolean;
      readonly offset?: number;
    }
  | { readonly page: 'stream'; readonly stream: string }
  | { readonly page: 'group'; readonly stream: string; readonly group: string }
  | { readonly page: 'health' };

export type StreamOrder = 'name' | 'length' | 'memory' | 'rate' | 'lag' | 'lagSeconds' | 'deadLetters';

/** Beside what an update has: when the server sent it. It may have measured the figures before, at `at`, for another viewer. */
export interface Sent {
  readonly now: number;
}

/** What an `update` of each view has, beside {@link Sent}. */
export interface Updates {
  readonly streams: StreamsUpdate;
  readonly stream: StreamUpdate;
  readonly group: GroupUpdate;
  readonly health: HealthUpdate;
}

export interface StreamsUpdate {
  /** One page: {@link STREAMS_ON_A_PAGE} rows at most. */
  readonly rows: readonly StreamRow[];
  /** Streams that match the search. */
  readonly matching: number;
  /** Streams that were found. */
  readonly total: number;
  /** The keyspace was searched to its end; more streams may appear before that. */
  readonly isComplete: boolean;
  /** Milliseconds between two updates: longer with many streams. */
  readonly interval: number;
  readonly at: number;
}

export const STREAMS_ON_A_PAGE = 50;

export interface StreamRow {
  readonly stream: string;
  readonly length: number | null;
  readonly memory: number | null;
  /** Entries that were added in a second, since the last update. */
  readonly rate: number | null;
  readonly shards: number;
  readonly groups: readonly GroupRow[];
  /** Dead letters that wait, of its own stream of dead letters. */
  readonly deadLetters: number | null;
  /** Why the stream could not be read, as while its node of a cluster is down; its figures are unknown then. */
  readonly failure: string | null;
}

export interface GroupRow {
  readonly name: string;
  readonly lag: number | null;
  readonly lagSeconds: number | null;
  readonly pending: number;
  readonly consumers: number;
  readonly isPaused: boolean | null;
}

export interface StreamUpdate {
  /** Null when there is no such stream. */
  readonly row: StreamRow | null;
  readonly firstId: string | null;
  readonly lastId: string | null;
  readonly shards: readonly ShardRow[];
  readonly at: number;
}

export interface ShardRow {
  readonly key: string;
  readonly shard: number;
  readonly length: number;
  readonly memory: number | null;
  readonly firstId: string | null;
  readonly lastId: string | null;
}

export interface GroupUpdate {
  /** Null when there is no such group. */
  readonly group: GroupRow | null;
  /** Where it reads, for each shard. */
  readonly positions: readonly { readonly shard: number; readonly lastDeliveredId: string }[];
  readonly consumers: readonly ConsumerRow[];
  /** Of owned shards; none where shards are shared. */
  readonly owners: readonly OwnerRow[];
  /** Those that wait longest, {@link PENDING_SHOWN} at most. */
  readonly pending: readonly PendingRow[];
  /** Samples of the last minutes, the oldest first; the server keeps them while a page has viewers. */
  readonly history: readonly LagSample[];
  readonly at: number;
}

export const PENDING_SHOWN = 50;

export interface ConsumerRow {
  readonly name: string;
  readonly pending: number;
  readonly idle: number;
  /** Since it last received something; null before Redis 7.2. */
  readonly inactive: number | null;
}

export interface OwnerRow {
  readonly shard: number;
  readonly owner: string | null;
  readonly generation: string | null;
  readonly expiresIn: number | null;
}

export interface PendingRow {
  readonly shard: number;
  readonly id: string;
  readonly consumer: string;
  readonly idle: number;
  readonly deliveries: number;
}

export interface LagSample {
  readonly at: number;
  readonly lag: number | null;
  readonly lagSeconds: number | null;
  readonly pending: number;
}

/** Streamers of this process. */
export interface HealthUpdate {
  readonly isHealthy: boolean;
  readonly parts: readonly HealthPart[];
  readonly at: number;
}

export interface HealthPart {
  /** `server`, or the token of a client. */
  readonly name: string;
  readonly isHealthy: boolean;
  readonly status: string;
  readonly reconnects: number;
  readonly loops: readonly LoopRow[];
}

export interface LoopRow {
  readonly streams: readonly string[];
  readonly mode: string;
  readonly group: string | null;
  readonly consumer: string | null;
  readonly isHealthy: boolean;
  /** Why it is not. */
  readonly problem: string | null;
  readonly buffered: number;
  readonly inFlight: number;
  readonly lag: number | null;
  readonly pending: number | null;
  readonly oldestHandler: number | null;
}

/**
 * `GET api/messages?stream=…` with the fields of {@link MessageQuery}, and `GET api/message?stream=…&id=…` for one; with `shard=…`
 * the one of this shard, because several shards may have an entry with the same id.
 */
export interface MessageQuery {
  readonly stream: string;
  /** Ids or times, these in ISO 8601; `newest` goes back from `until`, otherwise forward from `since`. */
  readonly since?: string;
  readonly until?: string;
  readonly newest?: boolean;
  /** Continues behind the last message of a page. */
  readonly after?: string;
  /** The key of the message. */
  readonly key?: string;
  /** `name` or `name=value`. */
  readonly header?: string;
  /** Part of the payload. Refused where payloads are hidden. */
  readonly text?: string;
}

export interface MessagePage {
  readonly messages: readonly MessageRow[];
  /** For `after`; null at the end. A page may be empty and have one: a search ends after {@link MESSAGES_SEARCHED} entries. */
  readonly next: string | null;
  readonly searched: number;
}

export const MESSAGES_ON_A_PAGE = 50;
export const MESSAGES_SEARCHED = 5_000;
/** Bytes of a payload in a list; `api/message` has all of it, up to a megabyte. */
export const PAYLOAD_IN_A_LIST = 2_048;

export interface MessageRow {
  readonly id: string;
  readonly shard: number;
  /** Null where the first part of the id is larger than any time. */
  readonly at: number | null;
  readonly key: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly payload: Payload;
}

export interface Payload {
  readonly bytes: number;
  /** Null where payloads are hidden. */
  readonly text: string | null;
  /** `text` is base64, because the bytes are no UTF-8. */
  readonly isBinary: boolean;
  /** `text` has only the beginning. */
  readonly isCut: boolean;
}

/**
 * `GET api/dead-letters?stream=…` with the fields of {@link DeadLetterFilter} and `after`, and `GET api/dead-letter?stream=…&id=…`,
 * also with `deadLetterStream`, for one with all of its payload, up to a megabyte.
 */
export interface DeadLetterFilter {
  readonly stream: string;
  readonly deadLetterStream?: string;
  readonly group?: string;
  readonly reason?: string;
  /** Part of the name or the message of the error. */
  readonly error?: string;
  /** Ids or times, as in {@link MessageQuery}. */
  readonly since?: string;
  readonly until?: string;
}

export interface DeadLetterPage {
  readonly deadLetters: readonly DeadLetterRow[];
  /** For `after`; null at the end. As in {@link MessagePage}, a page may be empty and have one. */
  readonly next: string | null;
  readonly searched: number;
}

export interface DeadLetterRow {
  readonly id: string;
  /** As in {@link MessageRow}. */
  readonly at: number | null;
  readonly reason: string | null;
  readonly error: { readonly name: string; readonly message: string; readonly stack: string | null } | null;
  readonly origin: {
    readonly key: string;
    readonly id: string;
    readonly group: string;
    readonly consumer: string;
  } | null;
  readonly deliveries: number | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly payload: Payload;
}

/** `GET api/delayed?stream=…&after=…` */
export interface DelayedPage {
  readonly delayed: readonly DelayedRow[];
  readonly next: string | null;
}

export interface DelayedRow {
  readonly id: string;
  readonly shard: number;
  readonly deliverAt: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly payload: Payload;
}

/*
 * Changes are POSTs with JSON, the header `x-nrs-console: 1`, and an answer. All of them are refused with 403 where the console
 * is read-only.
 */

/** `POST api/dead-letters/redrive` and `POST api/dead-letters/delete`: at most 1,000 ids, or all that the filter finds. */
export interface DeadLetterChange extends DeadLetterFilter {
  readonly ids?: readonly string[];
  /** What the dry run answered: dead letters behind it, which were stored since, stay. Not beside `ids`. */
  readonly upTo?: string;
  readonly dryRun: boolean;
}

export interface DeadLetterChanged {
  readonly changed: number;
  /** Those that are gone, whose headers name no origin, whose group does not exist any more, or whose message is still pending. */
  readonly skipped: number;
  /** The last dead letter that the filter found; null for ids, and where it found none. */
  readonly upTo: string | null;
}

/** `POST api/delayed/cancel`; the answer has `{ cancelled }`, false when it is in the stream already. */
export interface DelayedCancel {
  readonly stream: string;
  readonly shard: number;
  readonly id: string;
}

/** `POST api/groups/pause`, `POST api/groups/resume` */
export interface GroupChange {
  readonly stream: string;
  readonly group: string;
}

/** `POST api/groups/position` */
export interface GroupMove extends GroupChange {
  /** A time, `beginning` or `end`. */
  readonly to: number | 'beginning' | 'end';
  /** Only with `end`: what the dry run answered as `end` of each key, so that the move does not skip messages that were sent since. */
  readonly ends?: Readonly<Record<string, string>>;
  readonly dryRun: boolean;
}

export interface GroupMoved {
  readonly moves: readonly ShardMove[];
}

export interface ShardMove {
  readonly key: string;
  readonly shard: number;
  /** The last id that counted as delivered. */
  readonly from: string;
  /** The last id of the shard. */
  readonly end: string;
  /** Messages behind the new position, which would be delivered, also those that were delivered before. */
  readonly messages: Count;
  /** Messages that were never delivered, and would not be. */
  readonly skipped: Count;
}

export interface Count {
  readonly count: number;
  /** There are more: counting ended at a limit. */
  readonly isMore: boolean;
}

/** The answer of a request that failed, beside its status. */
export interface Failure {
  readonly message: string;
  /** The code of the error, such as `ERR_PERMISSION`. */
  readonly code: string | null;
}
