import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** The purpose of a connection of this package, from the name that it sets with CLIENT SETNAME. */
export type LinkRole = 'reader' | 'writer' | 'control';

interface Link {
  readonly client: Socket;
  readonly upstream: Socket;
  role: LinkRole | undefined;
  isStalled: boolean;
}

interface Answer {
  readonly role: LinkRole;
  readonly command: string;
  readonly reply: string;
}

interface Tear {
  readonly bytes: number;
  readonly role: LinkRole | undefined;
  readonly torn: () => void;
  /** Waits for a request with this text. */
  request: string | undefined;
  skip: number;
}

/** The beginning of the length line of an argument; anything else in its place is a protocol error. */
const ARGUMENT = '$';
const HOST = '127.0.0.1';
const ROLE = /nestjs-redis-streams:(reader|writer|control)/;

/**
 * A TCP proxy between clients and one Redis that causes connection faults. A fault without a role applies to every
 * connection.
 */
export class FaultProxy {
  readonly #target: number;
  readonly #links = new Set<Link>();
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #abandoned = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;
  #accepted = 0;
  #delay = 0;
  #held: Array<() => void> | undefined;
  #isStalling = false;
  #stall: { readonly text: string; readonly stalled: () => void } | undefined;
  #tears: Tear[] = [];
  #corruptions: LinkRole[] = [];
  #answer: Answer | undefined;
  #answers = 0;
  #refused: string | undefined;
  #refusals = 0;

  static async start(targetPort: number): Promise<FaultProxy> {
    const proxy = new FaultProxy(targetPort);
    await proxy.accept();
    return proxy;
  }

  private constructor(target: number) {
    this.#target = target;
  }

  get url(): string {
    return `redis://${HOST}:${this.#port}`;
  }

  /** Connections accepted since the start. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Connections that are open now. */
  get open(): number {
    return this.#links.size;
  }

  /** Accepts new connections, on the same port as before. */
  async accept(): Promise<void> {
    if (this.#server) return;
    this.#server = createServer({ allowHalfOpen: true }, (client) => this.#join(client));
    this.#server.listen(this.#port, HOST);
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as { port: number }).port;
  }

  /** Refuses new connections; open connections continue. */
  refuse(): void {
    // Not awaited: the server emits `close` only when all its connections have ended.
    this.#server?.close();
    this.#server = undefined;
  }

  /** Ends connections, with RST or FIN; returns their number. */
  cut(how: 'rst' | 'fin' = 'rst', role?: LinkRole): number {
    const links = this.#linksOf(role);
    for (const link of links) this.#end(link, how);
    return links.length;
  }

  /**
   * Half-open: open connections drop the bytes of both directions and stay open; without a role, new connections do
   * too.
   */
  stall(role?: LinkRole): void {
    for (const link of this.#linksOf(role)) link.isStalled = true;
    this.#isStalling ||= role === undefined;
  }

  /** The same from the next request with this text on, which gets lost; resolves then. */
  stallAt(text: string): Promise<void> {
    return new Promise((stalled) => (this.#stall = { text, stalled }));
  }

  /** New connections work again; stalled ones have lost bytes and stay stalled. */
  unstall(): void {
    this.#isStalling = false;
  }

  /**
   * Forwards this many bytes of the next reply, then ends the connection; with `skip`, of a later reply. Resolves when
   * the connection has ended.
   */
  tearReply(bytes: number, role?: LinkRole, skip = 0): Promise<void> {
    return new Promise((torn) => this.#tears.push({ bytes, role, torn, skip, request: undefined }));
  }

  /**
   * Ends the connection in place of the next reply after a request with this text, which the server carries out; without a role, a
   * request of a connection that sets no name.
   */
  loseReplyTo(request: string, role?: LinkRole): Promise<void> {
    return new Promise((torn) => this.#tears.push({ bytes: 0, role, torn, skip: 0, request }));
  }

  /** Damages the next request of that role, so that the server cannot read it. */
  corruptRequest(role: LinkRole): void {
    this.#corruptions.push(role);
  }

  /** Answers every command of that role and name itself, until {@link relay}; nothing else may be under way with it. */
  answer(role: LinkRole, command: string, reply: string): void {
    this.#answer = { role, command, reply };
  }

  /**
   * Ends every connection that sends this text, as a proxy does with a request over its limit. What came before is passed on, and
   * the replies to it are lost. Until {@link relay}.
   */
  refuseText(text: string): void {
    this.#refused = text;
  }

  /** Connections that were ended by {@link refuseText}. */
  get refusals(): number {
    return this.#refusals;
  }

  /** Passes all commands on again. */
  relay(): void {
    this.#answer = undefined;
    this.#refused = undefined;
  }

  /** Commands that were not passed on. */
  get answers(): number {
    return this.#answers;
  }

  /**
   * Resets the client's side while the server's side stays open: replies that the server sends from now on are lost.
   */
  abandon(role?: LinkRole): void {
    for (const link of this.#linksOf(role)) {
      this.#links.delete(link);
      this.#abandoned.add(link.upstream);
      link.client.removeAllListeners('close').resetAndDestroy();
    }
  }

  /** Keeps the bytes of both directions, until {@link deliver} sends them on, as a network does that was interrupted. */
  hold(): void {
    this.#held ??= [];
  }

  deliver(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const write of held) write();
  }

  /** Every chunk travels later by so much, either way. */
  delay(ms: number): void {
    this.#delay = ms;
  }

  stop(): void {
    this.refuse();
    for (const timer of this.#timers) clearTimeout(timer);
    for (const link of this.#links) this.#end(link, 'rst');
    for (const socket of this.#abandoned) socket.destroy();
  }

  #linksOf(role: LinkRole | undefined): Link[] {
    return [...this.#links].filter((link) => role === undefined || link.role === role);
  }

  #join(client: Socket): void {
    this.#accepted += 1;
    const upstream = connect({ host: HOST, port: this.#target, noDelay: true, allowHalfOpen: true });
    client.setNoDelay();
    const link: Link = { client, upstream, role: undefined, isStalled: this.#isStalling };
    this.#links.add(link);
    client.on('data', (chunk: Buffer) => {
      link.role ??= ROLE.exec(chunk.toString('latin1'))?.[1] as LinkRole | undefined;
      this.#stallBy(chunk);
      if (this.#hasRefused(link, chunk)) return;
      this.#arm(link, chunk);
      this.#corrupt(link, chunk);
      if (!this.#hasAnswered(link, chunk)) this.#pass(link, upstream, chunk);
    });
    upstream.on('data', (chunk: Buffer) => {
      if (!this.#tear(link, chunk)) this.#pass(link, client, chunk);
    });
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      socket.on('error', () => undefined);
      socket.on('end', () => !link.isStalled && other.end());
      socket.on('close', () => {
        this.#links.delete(link);
        if (!this.#abandoned.delete(socket) && !(link.isStalled && socket === upstream)) other.destroy();
      });
    }
  }

  #pass(link: Link, to: Socket, chunk: Buffer): void {
    if (link.isStalled) return;
    const write = (): void => {
      if (!link.isStalled && to.writable) to.write(chunk);
    };
    if (this.#held) {
      this.#held.push(write);
      return;
    }
    if (this.#delay === 0) return write();
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      write();
    }, this.#delay);
    this.#timers.add(timer);
  }

  #stallBy(chunk: Buffer): void {
    if (!this.#stall || !chunk.includes(this.#stall.text)) return;
    this.stall();
    this.#stall.stalled();
    this.#stall = undefined;
  }

  #hasRefused({ client, upstream }: Link, chunk: Buffer): boolean {
    const at = this.#refused === undefined ? -1 : chunk.indexOf(this.#refused);
    if (at === -1) return false;
    this.#refusals += 1;
    upstream.removeAllListeners('data').resume().end(chunk.subarray(0, at));
    client.removeAllListeners('data').resume().end();
    return true;
  }

  #hasAnswered({ client, role }: Link, chunk: Buffer): boolean {
    const answer = this.#answer;
    if (!answer || role !== answer.role || !chunk.includes(answer.command)) return false;
    this.#answers += 1;
    client.write(`${answer.reply}\r\n`);
    return true;
  }

  #corrupt(link: Link, chunk: Buffer): void {
    const index = link.role === undefined ? -1 : this.#corruptions.indexOf(link.role);
    if (index === -1) return;
    this.#corruptions.splice(index, 1);
    chunk.write('x', chunk.indexOf(ARGUMENT));
  }

  #arm(link: Link, chunk: Buffer): void {
    for (const tear of this.#tears) {
      if (tear.role === link.role && tear.request !== undefined && chunk.includes(tear.request))
        tear.request = undefined;
    }
  }

  #tear(link: Link, chunk: Buffer): boolean {
    const index = this.#tears.findIndex(
      ({ role, request }) => request === undefined && (role === undefined || role === link.role),
    );
    const tear = this.#tears[index];
    if (!tear || tear.skip-- > 0) return false;
    this.#tears.splice(index, 1);
    link.upstream.destroy();
    link.client.end(chunk.subarray(0, tear.bytes));
    tear.torn();
    return true;
  }

  #end({ client, upstream }: Link, how: 'rst' | 'fin'): void {
    for (const socket of [client, upstream]) {
      if (how === 'rst') socket.resetAndDestroy();
      else socket.end();
    }
  }
}
