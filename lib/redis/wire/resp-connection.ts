import type { Socket } from 'node:net';

import { monotonicNow } from '../../shared/clock.js';
import { ValueDecoder } from './reply-handler.js';
import type { ReplyHandler } from './reply-handler.js';
import { ConnectionLost, ProtocolError, RESP, RespReader } from './resp-reader.js';

export interface RespConnectionOptions {
  /** Milliseconds that the peer may be silent while a reply is due, before the connection counts as dead. */
  readonly replyTimeout: number;
  /** Takes what the server sends between replies once a command has asked for that (RESP3). Must not throw. */
  readonly onPush?: ((values: unknown) => void) | undefined;
}

const NOTHING = Buffer.alloc(0);
const LF = 10;

/** A server ends an idle connection after a second at the soonest (`timeout 1`). */
const SILENCE = 1_000;

/** So many bytes are written by themselves: a system call costs little beside them. */
const WORTH_A_WRITE = 16 * 1024;

/** From here on the served handlers at the beginning of the queue are cut off. */
const CUT_FROM = 1_024;

/**
 * The only reader and writer of one socket, which is connected and authenticated. It owns the socket's listeners for data
 * and its end, the queue of handlers that wait for replies, the bytes of a reply that is not complete, and the reply timer.
 *
 * ```
 *            send(): bytes → socket, handler → queue      data: bytes → first handler of the queue
 *            ┌──────────┐                                 ┌──────────┐
 *            ▼          │                                 ▼          │
 *   open ────┴──────────┴─────────────────────────────────┴──────────┴──── end() ──▶ ended
 *                      end() is called by: the owner · the socket's end, error or close · bytes that are
 *                      no RESP, or a reply that no command waits for · a due reply that does not come
 * ```
 *
 * - `send` puts the bytes into the write queue and the handler into the queue of replies in the same synchronous step.
 *   Replies come in the order of commands, so no other bookkeeping is needed. The bytes of one turn of the event loop are
 *   written together. After a silence they are written a turn later: the server may have ended the connection, and then
 *   nothing of them was written.
 * - `end` is the one way to end: it destroys the socket, fails each handler that still waits, in order, and happens once.
 *   A handler that is sent afterwards fails at once.
 *
 * It never reconnects, never repeats a command, never leaves a handler without a call, and never calls one twice.
 */
export class RespConnection {
  readonly #socket: Socket;
  readonly #replyTimeout: number;
  readonly #onPush: RespConnectionOptions['onPush'];
  readonly #reader = new RespReader();
  /** Handlers that wait for replies; those before `#head` have been served. */
  #queue: Array<ReplyHandler | undefined> = [];
  #head = 0;
  /** The first handler has taken a part of its reply. */
  #isInReply = false;
  /** A push of which a part has been taken. */
  #push: ValueDecoder | undefined;
  /** Beginning of a reply that is not complete. */
  #kept: Buffer[] = [];
  #keptBytes = 0;
  /** Whether nothing has been received yet. */
  #isFresh = true;
  #isCorked = false;
  /** Nothing that waits has been written yet. */
  #isHeldBack = false;
  #timer: NodeJS.Timeout | undefined;
  /** When the peer last sent something, or the first reply became due. */
  #lastSignAt = monotonicNow();
  /** When the first of the commands that wait was sent, and how long nothing was under way before, until it is answered. */
  #firstSentAt = 0;
  #silence = 0;
  #endedBy: ConnectionLost | undefined;
  #quietAtEnd = 0;

  /** Call it when nothing is under way on the socket, and after all other listeners for data have been removed. */
  constructor(socket: Socket, { replyTimeout, onPush }: RespConnectionOptions) {
    this.#socket = socket;
    this.#replyTimeout = replyTimeout;
    this.#onPush = onPush;
    this.#reader.isResp3 = onPush !== undefined;
    socket.on('data', this.#receive);
    socket.on('error', (error) => this.end(error));
    socket.on('end', () => this.end(new Error('Redis closed the connection')));
    socket.on('close', () => this.end(new Error('the connection was closed')));
    if (socket.destroyed) this.end(new Error('the connection was closed'));
  }

  get isOpen(): boolean {
    return this.#endedBy === undefined;
  }

  /** Whether the server may send something between replies. */
  get takesPushes(): boolean {
    return this.#onPush !== undefined;
  }

  /** Number of commands, or batches of commands, that wait for their replies. */
  get waiting(): number {
    return this.#queue.length - this.#head;
  }

  get silentFor(): number {
    return this.waiting === 0 ? 0 : monotonicNow() - this.#lastSignAt;
  }

  get quietFor(): number {
    if (this.#endedBy) return this.#quietAtEnd;
    const now = monotonicNow();
    if (this.waiting === 0) return now - this.#lastSignAt;
    // The peer may have closed an idle connection when the first command after the silence was on its way.
    return now - this.#firstSentAt < SILENCE ? this.#silence : 0;
  }

  /** @param bytes complete commands, whose replies `handler` reads; they must not change until it is called */
  send(bytes: Uint8Array, handler: ReplyHandler): void {
    if (this.#endedBy) return handler.lost(neverWritten(this.#endedBy));
    if (this.#head === this.#queue.length) this.#expectReply();
    this.#queue.push(handler);
    if (!this.#isCorked) {
      this.#isCorked = true;
      this.#socket.cork();
      // Between two immediates the event loop looks at its sockets. Before the first it does not, when a socket was the caller.
      if (this.#isHeldBack) setImmediate(() => setImmediate(this.#uncork));
      else process.nextTick(this.#uncork);
    }
    this.#socket.write(bytes);
    if (bytes.length >= WORTH_A_WRITE) this.flush();
  }

  /**
   * Writes what was sent in this turn of the event loop at once, so that the server works while the turn continues. Does nothing
   * while writes are held back after a silence.
   */
  flush(): void {
    if (this.#isCorked && !this.#isHeldBack) this.#uncork();
  }

  /** Ends the connection; what waits for replies fails with a {@link ConnectionLost} of that cause. Idempotent. */
  end(cause: Error): void {
    if (this.#endedBy) return;
    this.#quietAtEnd = cause instanceof ProtocolError ? 0 : this.quietFor;
    const error = new ConnectionLost(cause.message, { cause });
    this.#endedBy = error;
    clearTimeout(this.#timer);
    this.#socket.off('data', this.#receive);
    this.#socket.destroy();
    this.#kept = [];
    const waiting = this.#queue.slice(this.#head);
    this.#queue = [];
    this.#head = 0;
    const loss = this.#isHeldBack ? neverWritten(error) : error;
    for (const handler of waiting) handler?.lost(loss);
  }

  readonly #uncork = (): void => {
    if (!this.#isCorked) return;
    this.#isCorked = false;
    this.#isHeldBack = false;
    this.#socket.uncork();
  };

  readonly #receive = (chunk: Buffer): void => {
    this.#lastSignAt = monotonicNow();
    this.#silence = 0;
    try {
      this.#read(this.#isFresh ? this.#withoutLineBreak(chunk) : chunk);
    } catch (error) {
      this.end(error as Error);
    }
  };

  /**
   * The reader before this one may have taken its last line as complete at the CR, as that of ioredis 6 does, when the LF was
   * still on its way. No reply begins with an LF.
   */
  #withoutLineBreak(chunk: Buffer): Buffer {
    this.#isFresh = false;
    return chunk[0] === LF ? chunk.subarray(1) : chunk;
  }

  #read(chunk: Buffer): void {
    const reader = this.#reader;
    this.#kept.push(chunk);
    this.#keptBytes += chunk.length;
    // Joined only when enough is there: a large payload arrives in very many chunks.
    if (this.#keptBytes < reader.wanted) return;
    reader.bytes = this.#kept.length === 1 ? chunk : Buffer.concat(this.#kept, this.#keptBytes);
    reader.at = 0;
    reader.wanted = 0;
    while (reader.at < reader.bytes.length && this.#readReply(reader));
    const rest = reader.bytes.subarray(reader.at);
    if (reader.wanted > 0) reader.wanted -= reader.at;
    this.#kept = rest.length > 0 ? [rest] : [];
    this.#keptBytes = rest.length;
    reader.bytes = NOTHING;
  }

  /** False when the reply is not complete. */
  #readReply(reader: RespReader): boolean {
    if (this.#onPush && !this.#isInReply && (this.#push || reader.newType === RESP.push)) {
      return this.#readPush(reader, this.#onPush);
    }
    const handler = this.#queue[this.#head];
    if (!handler) throw new ProtocolError('Redis sent a reply that no command waits for');
    const start = reader.at;
    const isComplete = handler.read(reader);
    this.#isInReply = !isComplete && (this.#isInReply || reader.at > start);
    if (!isComplete) return false;
    this.#queue[this.#head] = undefined;
    this.#head += 1;
    if (this.#head === this.#queue.length) this.#cut([]);
    else if (this.#head >= CUT_FROM) this.#cut(this.#queue.slice(this.#head));
    handler.complete();
    return true;
  }

  #readPush(reader: RespReader, onPush: (values: unknown) => void): boolean {
    const push = (this.#push ??= new ValueDecoder('utf8'));
    if (!push.read(reader)) return false;
    this.#push = undefined;
    onPush(push.value);
    return true;
  }

  #cut(queue: Array<ReplyHandler | undefined>): void {
    this.#queue = queue;
    this.#head = 0;
  }

  #expectReply(): void {
    const now = monotonicNow();
    this.#silence = now - this.#lastSignAt;
    this.#isHeldBack = !this.#isCorked && this.#silence >= SILENCE;
    this.#firstSentAt = now;
    this.#lastSignAt = now;
    this.#timer ??= setTimeout(this.#checkSilence, this.#replyTimeout);
  }

  /** One timer serves all commands: it is set when a reply becomes due and looks at the clock when it fires. */
  readonly #checkSilence = (): void => {
    this.#timer = undefined;
    if (this.waiting === 0 || this.#endedBy) return;
    const left = this.#lastSignAt + this.#replyTimeout - monotonicNow();
    if (left > 0) this.#timer = setTimeout(this.#checkSilence, left);
    // The process itself may have stood still; then replies wait in the socket, and are read before this is called.
    else setImmediate(this.#giveUpOnSilence);
  };

  readonly #giveUpOnSilence = (): void => {
    if (this.waiting === 0 || this.#endedBy) return;
    const left = this.#lastSignAt + this.#replyTimeout - monotonicNow();
    if (left > 0) this.#timer ??= setTimeout(this.#checkSilence, left);
    else this.end(new Error(`no reply within ${this.#replyTimeout} ms`));
  };
}

function neverWritten({ message, cause }: ConnectionLost): ConnectionLost {
  return new ConnectionLost(message, { cause, wasWritten: false });
}
