import { setTimeout as pause } from 'node:timers/promises';
import type { Cluster, Redis } from 'ioredis';
import { entryId } from 'nestjs-redis-streams/engine';
import { explained, isUnanswered } from './client-errors.js';
import type { FileMessage } from './dump-reader.js';
import { FailedError } from './failure.js';
import type { Session } from './session.js';

type StoredEntry = [id: Buffer, fields: Buffer[]];

/** Milliseconds between two attempts to learn what has become of a batch. */
const INTERVAL = 100;

/**
 * Appends batches, each in one transaction: all of its messages are stored, one behind the other, or none. So a batch whose reply
 * was lost is looked for behind what was there before it, and repeated only if it is missing.
 */
export class Appender {
  readonly #session: Session;
  /** The last id of each key. */
  readonly #positions: Map<string, string>;
  #uncertain = 0;

  /** @param positions the last id of each key that exists */
  constructor(session: Session, positions: ReadonlyMap<string, string>) {
    this.#session = session;
    this.#positions = new Map(positions);
  }

  /** Messages of a batch that may be stored, after an error. */
  get uncertain(): number {
    return this.#uncertain;
  }

  /** @throws FailedError, ConnectionError, or what Redis says of a message that it refuses: those before it stay */
  async append(key: string, messages: readonly FileMessage[], keepsIds: boolean): Promise<void> {
    let deadline: number | undefined;
    for (let isFirst = true; ; isFirst = false) {
      try {
        const redis = await this.#session.redis();
        const after = this.#positions.get(key) ?? '0-0';
        const last =
          (isFirst ? undefined : await find(redis, key, after, messages)) ??
          (await write(redis, key, messages, keepsIds));
        this.#positions.set(key, last);
        this.#uncertain = 0;
        return;
      } catch (error) {
        if (!isUnanswered(error)) throw error;
        this.#uncertain = messages.length;
        deadline ??= performance.now() + this.#session.timeout;
        if (performance.now() >= deadline) throw explained(error, this.#session.timeout);
        await pause(INTERVAL);
      }
    }
  }
}

/** @returns the id of the last message */
async function write(
  redis: Redis | Cluster,
  key: string,
  messages: readonly FileMessage[],
  keepsIds: boolean,
): Promise<string> {
  const batch = redis.multi();
  for (const { id, fields } of messages) batch.call('XADD', key, keepsIds && id !== undefined ? id : '*', ...fields);
  const replies = await batch.exec().catch((error: unknown) => {
    throw refusalOf(error);
  });
  if (!replies) throw new FailedError(`Redis has dropped a batch for '${key}'`);
  for (const [error] of replies) if (error) throw error;
  return String(replies.at(-1)?.[1]);
}

/** Redis refuses a transaction because it has refused a command of it, as when its memory is full: that error tells why. */
function refusalOf(error: unknown): unknown {
  const { previousErrors } = error as { previousErrors?: readonly unknown[] };
  return previousErrors?.[0] ?? error;
}

/** Looks for the messages behind an id, one behind the other. @returns the id of the last one */
async function find(
  redis: Redis | Cluster,
  key: string,
  after: string,
  messages: readonly FileMessage[],
): Promise<string | undefined> {
  const window: StoredEntry[] = [];
  for (let start = entryId.next(after); start !== undefined;) {
    const page: StoredEntry[] = await redis.xrangeBuffer(key, start, '+', 'COUNT', messages.length);
    for (const entry of page) {
      if (window.push(entry) > messages.length) window.shift();
      if (window.length === messages.length && window.every(([, fields], index) => hasFields(messages[index], fields)))
        return entry[0].toString();
    }
    const last = page.at(-1);
    start = last && page.length === messages.length ? entryId.next(last[0].toString()) : undefined;
  }
  return undefined;
}

function hasFields(message: FileMessage | undefined, fields: readonly Buffer[]): boolean {
  return (
    message?.fields.length === fields.length &&
    fields.every((field, index) => field.equals(Buffer.from(message.fields[index] ?? '')))
  );
}
