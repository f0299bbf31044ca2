import type { Socket } from 'node:net';

import { FuzzFlow, UNCHANGED } from './fuzz-flow.ts';
import type { Manner } from './fuzz-flow.ts';
import type { FramingByte } from './resp-framing.ts';
import type { SeededRandom } from './seeded-random.ts';

/** The counts of all connections of a proxy. */
export interface FuzzCounts {
  connections: number;
  /** Writes to either peer. */
  pieces: number;
  bytes: number;
  /** Connections that were ended in the middle of their traffic, with RST or FIN. */
  cuts: number;
  /** Connections whose client lost them while the server served them for some time. */
  abandoned: number;
  /** Connections that stood still until the client ended them. */
  stalls: number;
  /** Connections whose last requests reached the server after the client had ended them. */
  late: number;
  corruptedRequests: number;
  corruptedReplies: number;
  /** The longest time between a corrupted byte and the end of its connection, in milliseconds. */
  slowestNotice: number;
}

export interface FuzzRules {
  /** Mean time until the fate of a connection comes, in milliseconds. */
  readonly meanLife: number;
  /**
   * Which bytes of replies are corrupted: all that frame values; or types only, because the decoder of ioredis notices no
   * others.
   */
  readonly replies: 'framing' | 'types';
  /** Requests reach the server at most this much later than their client has ended the connection, in milliseconds. */
  readonly maxLateness: number;
}

export interface FuzzLinkOptions {
  readonly client: Socket;
  readonly upstream: Socket;
  readonly random: SeededRandom;
  readonly rules: FuzzRules;
  readonly counts: FuzzCounts;
}

type Direction = 'requests' | 'replies';

interface Fate {
  readonly kind: 'cut' | 'abandon' | 'stall' | 'corrupt' | 'none';
  readonly direction: Direction;
  /** In milliseconds. */
  readonly after: number;
}

const MANNERS: readonly Manner[] = [
  { split: 0.2, tiny: 0, delay: 0.05, hiccup: 0 },
  { split: 0.6, tiny: 0.05, delay: 0.2, hiccup: 0.002 },
  { split: 0.3, tiny: 0.5, delay: 0.02, hiccup: 0 },
  { split: 0.1, tiny: 0.01, delay: 0.6, hiccup: 0.01 },
];

/** In place of a framing byte; of no use in any version of the protocol. */
const WRONG_BYTES = Buffer.from('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ');
const ASTERISK = 42;
const DOLLAR = 36;
const MINUS = 45;
const ONE = 49;
const EIGHT = 56;

/** The last reply of the self-test of a connection that is taken over: an XADD without arguments is refused. */
const SELF_TEST_REPLY = "arguments for 'xadd'";
/** How long a cut waits for bytes to cut, in milliseconds; then it comes between two replies. */
const CUT_PATIENCE = 500;
/** How long the other fates wait for traffic; a connection without any is cut then. */
const CORRUPT_PATIENCE = 3_000;
const STALL_PATIENCE = 15_000;

/**
 * One connection through a {@link FuzzProxy}. Until its fate comes it passes all bytes of both directions, torn, joined and
 * delayed. Its fate is one of these:
 *
 * - `cut`: both sides end, with RST or FIN, in the middle of what is passed in one direction.
 * - `abandon`: the client's side ends; the server executes what it has received, and perhaps the rest, and its replies are
 *   lost.
 * - `stall`: nothing more passes in one direction, or in both, until the client gives the connection up. What the server did
 *   not get by then is dropped, or reaches it a little later, as with a network that recovers.
 * - `corrupt`: one byte is replaced.
 *
 * A byte is corrupted only where its effect can be judged. RESP has no checksum: another byte in a payload, in an id or in the
 * digit of an integer is another value, which no receiver can notice. So only bytes that frame values are replaced, by
 * letters, and only where the receiver must notice:
 *
 * - In requests the `$` of an argument, and the digits and the CR of a length: the server answers with a protocol error,
 *   executes nothing more, and closes the connection. Not the `*` of a command: the server would read the rest of the
 *   connection as inline commands. Not a digit as another digit, nor line breaks behind content: the server does not check
 *   these, and would store something else than was sent.
 * - In replies the first byte of any value, digits and line breaks of lengths and integers, the last byte behind a bulk
 *   string, and the length of a bulk string by one, which puts its end in the wrong place. Not the line break behind a simple
 *   string or an error, whose text would only become longer; not the length of an array, which is wrong only from the reply
 *   after it on.
 *
 * Replies are corrupted only after the self-test of the connection: where that fails, the client is used the plain way from
 * then on, and nothing of the wire would be left to test.
 */
export class FuzzLink {
  readonly closed: Promise<unknown>;
  readonly #options: FuzzLinkOptions;
  readonly #requests: FuzzFlow;
  readonly #replies: FuzzFlow;
  #fate: Fate = { kind: 'none', direction: 'requests', after: 0 };
  #isDue = false;
  /** Of the fate. */
  #timer: NodeJS.Timeout | undefined;
  #corruptedAt: number | undefined;
  #isStalled = false;
  #isClientGone = false;
  #isServerGone = false;
  /** Of the self-test: `seen` while its last reply may be on its way to the client. */
  #selfTest: 'due' | 'seen' | 'over';

  constructor(options: FuzzLinkOptions) {
    this.#options = options;
    const { client, upstream, rules } = options;
    this.#selfTest = rules.replies === 'framing' ? 'due' : 'over';
    this.closed = Promise.all([closeOf(client), closeOf(upstream)]);
    upstream.on('data', (chunk: Buffer) => {
      if (this.#selfTest === 'due' && chunk.includes(SELF_TEST_REPLY)) this.#selfTest = 'seen';
    });
    this.#requests = this.#flow('requests', client, upstream);
    this.#replies = this.#flow('replies', upstream, client);
    client.once('end', () => this.#clientLeft()).once('close', () => this.#clientLeft());
    upstream.once('end', () => this.#serverLeft()).once('close', () => this.#serverLeft());
  }

  get isCorrupted(): boolean {
    return this.#corruptedAt !== undefined && !this.#isClientGone && !this.#isServerGone;
  }

  /** Draws manner and fate. */
  start(): void {
    const { random, rules } = this.#options;
    this.#requests.manner = random.pick(MANNERS);
    this.#replies.manner = random.pick(MANNERS);
    this.#fate = {
      kind: random.pick(['cut', 'cut', 'cut', 'cut', 'abandon', 'stall', 'corrupt', 'corrupt', 'corrupt']),
      direction: random.pick(['requests', 'replies']),
      after: -Math.log(1 - random.next()) * rules.meanLife,
    };
    this.#timer = setTimeout(() => this.#becomeDue(), this.#fate.after);
  }

  /** Nothing happens to the connection any more; one that stands still is cut. */
  calm(): void {
    clearTimeout(this.#timer);
    this.#isDue = false;
    this.#requests.manner = UNCHANGED;
    this.#replies.manner = UNCHANGED;
    if (this.#isStalled) this.destroy();
  }

  destroy(): void {
    clearTimeout(this.#timer);
    this.#requests.end();
    this.#replies.end();
    this.#options.client.resetAndDestroy();
    this.#options.upstream.resetAndDestroy();
  }

  #flow(direction: Direction, source: Socket, target: Socket): FuzzFlow {
    const { random, counts } = this.#options;
    const flow: FuzzFlow = new FuzzFlow({
      source,
      target,
      random: random.fork(direction),
      manner: UNCHANGED,
      onPiece: (piece) => this.#pieceOf(direction, flow, piece),
      onPassed: (bytes) => {
        counts.pieces += 1;
        counts.bytes += bytes;
      },
    });
    return flow;
  }

  #pieceOf(direction: Direction, flow: FuzzFlow, piece: Buffer): Buffer | undefined {
    const isStruck = this.#isDue && this.#fate.direction === direction;
    const isCorrupting = isStruck && this.#fate.kind === 'corrupt' && this.#selfTest === 'over';
    const bytes = flow.framingOf(piece, isCorrupting);
    if (direction === 'replies' && this.#selfTest === 'seen' && flow.isEmpty) this.#selfTest = 'over';
    if (isCorrupting) return this.#corrupt(direction, piece, bytes);
    if (!isStruck || this.#fate.kind !== 'cut') return piece;
    this.#cutIn(direction, piece);
    return undefined;
  }

  #becomeDue(): void {
    const { random, counts } = this.#options;
    this.#isDue = true;
    switch (this.#fate.kind) {
      case 'cut':
        this.#cutAfter(CUT_PATIENCE);
        break;
      case 'abandon':
        counts.abandoned += 1;
        this.#options.client.resetAndDestroy();
        break;
      case 'stall':
        counts.stalls += 1;
        this.#isStalled = true;
        this.#flowOf(this.#fate.direction).hold();
        if (random.isTrue(0.5)) this.#flowOf(this.#fate.direction === 'requests' ? 'replies' : 'requests').hold();
        this.#cutAfter(STALL_PATIENCE);
        break;
      case 'corrupt':
        this.#cutAfter(CORRUPT_PATIENCE);
        break;
      case 'none':
        break;
    }
  }

  #flowOf(direction: Direction): FuzzFlow {
    return direction === 'requests' ? this.#requests : this.#replies;
  }

  #cutAfter(patience: number): void {
    this.#timer = setTimeout(() => this.#cutIn('requests', Buffer.alloc(0)), patience);
  }

  /** Passes the beginning of the piece, possibly nothing, and ends both sides a moment later. */
  #cutIn(direction: Direction, piece: Buffer): void {
    const { random, client, upstream, counts } = this.#options;
    if (!this.#isDue) return;
    this.#isDue = false;
    counts.cuts += 1;
    clearTimeout(this.#timer);
    this.#requests.end();
    this.#replies.end();
    const target = direction === 'requests' ? upstream : client;
    if (target.writable) target.write(piece.subarray(0, random.integer(0, piece.length)));
    const isReset = random.isTrue(0.5);
    setTimeout(
      () => {
        for (const socket of [client, upstream]) {
          if (isReset) socket.resetAndDestroy();
          else socket.end();
        }
      },
      random.integer(0, 10),
    );
  }

  #corrupt(direction: Direction, piece: Buffer, bytes: readonly FramingByte[]): Buffer {
    const { random, counts } = this.#options;
    const found = bytes.filter((byte) => this.#isCorruptible(direction, byte));
    if (found.length === 0) return piece;
    const byte = random.pick(found);
    const { at } = byte;
    const corrupted = Buffer.from(piece);
    const old = piece[at] as number;
    const isLength = byte.kind === 'last-digit' && byte.type === DOLLAR && piece[at - 1] !== MINUS;
    const canBeOff = direction === 'replies' && isLength && at > 0 && old >= ONE && old <= EIGHT;
    if (canBeOff && random.isTrue(0.5)) corrupted[at] = old + random.pick([-1, 1]);
    else corrupted[at] = random.pick([...WRONG_BYTES]);
    this.#isDue = false;
    clearTimeout(this.#timer);
    this.#corruptedAt = Date.now();
    if (direction === 'requests') counts.corruptedRequests += 1;
    else counts.corruptedReplies += 1;
    return corrupted;
  }

  #isCorruptible(direction: Direction, { kind, type }: FramingByte): boolean {
    if (direction === 'replies') return kind === 'type' || this.#options.rules.replies === 'framing';
    if (kind === 'type') return type !== ASTERISK;
    return kind === 'digit' || kind === 'last-digit' || kind === 'cr';
  }

  #clientLeft(): void {
    if (this.#isClientGone) return;
    this.#noteNotice();
    this.#isClientGone = true;
    const { random, client, upstream, counts, rules } = this.#options;
    clearTimeout(this.#timer);
    this.#replies.end();
    client.destroy();
    if (this.#requests.isEmpty || random.isTrue(0.5)) {
      this.#requests.end();
      upstream.end();
      return;
    }
    counts.late += 1;
    setTimeout(
      () => {
        this.#requests.flush();
        upstream.end();
      },
      random.integer(0, rules.maxLateness),
    );
  }

  #serverLeft(): void {
    if (this.#isServerGone) return;
    this.#noteNotice();
    this.#isServerGone = true;
    const { client, upstream } = this.#options;
    clearTimeout(this.#timer);
    this.#requests.end();
    this.#replies.flush();
    upstream.destroy();
    client.end();
  }

  #noteNotice(): void {
    const { counts } = this.#options;
    if (this.#corruptedAt === undefined || this.#isClientGone || this.#isServerGone) return;
    counts.slowestNotice = Math.max(counts.slowestNotice, Date.now() - this.#corruptedAt);
  }
}

/** Resolves also when the socket ends with an error. */
function closeOf(socket: Socket): Promise<void> {
  socket.on('error', () => undefined);
  return new Promise((resolve) => socket.once('close', () => resolve()));
}
