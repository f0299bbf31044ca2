import type { AppendOutcomes } from './append-reply.js';
import type { ReplyEncoding } from './reply-handler.js';
import type { AppendRequest, Command } from './resp-writer.js';
import type { StreamPage } from './stream-entry.js';

/** A batch of XADDs to one stream. */
export interface AppendBatch {
  /** With its prefix, as Redis knows it. */
  readonly key: string;
  /** Arguments of XADD between key and id. */
  readonly limit: ReadonlyArray<string | number>;
  readonly requests: readonly AppendRequest[];
  /** Whether a caller needs the ids. */
  readonly wantsIds: boolean;
}

export interface SendSettings {
  /**
   * Precedes each command with ASKING: the node serves the key although the slot is still being migrated to it (Cluster).
   * @defaultValue `false`
   */
  readonly isAsking?: boolean | undefined;
}

/**
 * Sends commands over one live connection. Every method writes its commands before it returns, so that the order of calls
 * is the order on the server. Errors of the server are `ReplyError`s; any other error means that the connection ended and
 * that the outcome of a command without a reply is unknown.
 */
export interface CommandChannel {
  /** One command. Rejects with the server's error or with the end of the connection. */
  command(command: Command, encoding: ReplyEncoding, settings?: SendSettings): Promise<unknown>;
  /** Several commands in one write. Each outcome is a reply or an Error; never rejects. */
  commands(commands: readonly Command[], encoding: ReplyEncoding, settings?: SendSettings): Promise<unknown[]>;
  /** A batch of XADDs in one write. Each outcome is an id or an Error; never rejects. */
  append(batch: AppendBatch, settings?: SendSettings): Promise<AppendOutcomes>;
  /**
   * XREAD or XREADGROUP, or two of them in one write, whose pages are joined. Fails if the first fails, if the second fails and the
   * first has found nothing, or if the connection ends before both replies are there.
   * @param streamKey the stream key of a key that Redis names
   * @param onCount for one stream: called with the number of entries before the last page is decoded. May send the next
   * command; must not throw. Not called on the ioredis channel
   */
  pages(
    commands: readonly Command[],
    streamKey: (key: string) => string,
    settings?: SendSettings,
    onCount?: (entries: number) => void,
  ): Promise<StreamPage[]>;
  /** False as soon as the connection has ended: nothing may be sent any more. */
  readonly isOpen: boolean;
  /** Number of commands, or batches of commands, that wait for replies. */
  readonly waiting: number;
  /** How long the node has sent nothing although a reply is due, in milliseconds; 0 when none is. */
  readonly silentFor: number;
  /**
   * How long nothing was under way, in milliseconds, until now or until the connection ended; 0 when something was. The first
   * command after a silence does not count, until it is answered or a second has passed.
   */
  readonly quietFor: number;
}
