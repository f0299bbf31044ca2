import { AppendReply } from './append-reply.js';
import type { AppendOutcomes } from './append-reply.js';
import type { AppendBatch, CommandChannel, SendSettings } from './command-channel.js';
import { noSchema, PageReply } from './page-reply.js';
import { IgnoredReply, ValueReply, ValuesReply } from './reply-handler.js';
import type { ReplyEncoding, ReplyHandler } from './reply-handler.js';
import type { RespConnection } from './resp-connection.js';
import { RespWriter } from './resp-writer.js';
import type { Command } from './resp-writer.js';
import type { StreamPage } from './stream-entry.js';

const ASKING: Command = ['ASKING'];

/** Commands over a {@link RespConnection}: encodes each, sends it with the handler of its reply, and reuses the buffers. */
export class RespChannel implements CommandChannel {
  readonly #connection: RespConnection;
  readonly #writer = new RespWriter();
  readonly #lastSchema = noSchema();

  constructor(connection: RespConnection) {
    this.#connection = connection;
  }

  get isOpen(): boolean {
    return this.#connection.isOpen;
  }

  get waiting(): number {
    return this.#connection.waiting;
  }

  get silentFor(): number {
    return this.#connection.silentFor;
  }

  get quietFor(): number {
    return this.#connection.quietFor;
  }

  command(command: Command, encoding: ReplyEncoding, { isAsking = false }: SendSettings = {}): Promise<unknown> {
    const reply = new ValueReply(encoding);
    this.#send([command], reply, isAsking);
    return reply.promise;
  }

  commands(
    commands: readonly Command[],
    encoding: ReplyEncoding,
    { isAsking = false }: SendSettings = {},
  ): Promise<unknown[]> {
    if (isAsking) return this.#askEach(commands, encoding);
    const reply = new ValuesReply(encoding, commands.length);
    this.#send(commands, reply, false);
    return reply.promise;
  }

  append(
    { key, limit, requests, wantsIds }: AppendBatch,
    { isAsking = false }: SendSettings = {},
  ): Promise<AppendOutcomes> {
    if (isAsking) {
      const commands = requests.map(({ id, fields }): Command => ['XADD', key, ...limit, id, ...fields]);
      return this.#askEach(commands, 'utf8') as Promise<AppendOutcomes>;
    }
    const bytes = this.#writer.appends(key, limit, requests);
    const reply = new AppendReply(requests.length, wantsIds);
    this.#connection.send(bytes, reply);
    this.#releaseAfter(bytes, reply.promise);
    return reply.promise;
  }

  pages(
    commands: readonly Command[],
    streamKey: (key: string) => string,
    { isAsking = false }: SendSettings = {},
    onCount?: (entries: number) => void,
  ): Promise<StreamPage[]> {
    const reply = new PageReply(streamKey, this.#lastSchema, onCount, commands.length);
    this.#send(commands, reply, isAsking);
    // One that announces changes carries the reads of many streams, which go out together.
    if (!this.#connection.takesPushes) this.#connection.flush();
    return reply.promise;
  }

  /** ASKING holds for one command only. */
  async #askEach(commands: readonly Command[], encoding: ReplyEncoding): Promise<unknown[]> {
    const asked = commands.flatMap((command) => [ASKING, command]);
    const reply = new ValuesReply(encoding, asked.length);
    this.#send(asked, reply, false);
    return (await reply.promise).filter((_, index) => index % 2 === 1);
  }

  #send(commands: readonly Command[], reply: ReplyHandler & { promise: Promise<unknown> }, isAsking: boolean): void {
    if (isAsking) this.#connection.send(this.#writer.commands([ASKING]), new IgnoredReply());
    const bytes = this.#writer.commands(commands);
    this.#connection.send(bytes, reply);
    if (this.#writer.owns(bytes)) this.#releaseAfter(bytes, reply.promise);
  }

  /** Not when the connection ended: its socket may still hold bytes that it has not written. */
  #releaseAfter(bytes: Buffer, replies: Promise<unknown>): void {
    const release = (): void => {
      if (this.#connection.isOpen) this.#writer.release(bytes);
    };
    replies.then(release, release);
  }
}
