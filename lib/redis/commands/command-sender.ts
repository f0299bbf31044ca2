import { Command } from 'ioredis';
import type { Redis } from 'ioredis';

import { ConnectTimeoutError, ConnectionError } from '../../errors.js';
import type { AppendEncoder } from '../wire/append-encoder.js';
import { isCluster } from '../connection/client-factory.js';
import type { RedisClient } from '../connection/client-factory.js';
import { EncodedCommand } from '../wire/encoded-command.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { classifyRedisError, replyWord } from './redis-error.js';
import type { DecodedCommand } from '../wire/reply-tap.js';
import type { Script } from '../scripts/script.js';

export type CommandArgument = string | Uint8Array | number;
export type PipelinedCommand = readonly [name: string, ...args: CommandArgument[]];

const SLOTS_MOVED: ReadonlySet<string> = new Set(['CLUSTERDOWN', 'MOVED']);

/**
 * Sends commands over one connection: waits for it to be live, prefixes keys, turns a lost connection into
 * {@link ConnectionError}, and drops the connection when its node turns out to be no master. It repeats nothing.
 */
export class CommandSender {
  readonly connection: RedisConnection;
  readonly keyPrefix: string;
  /** How long a command waits for a connection, in milliseconds. */
  readonly timeout: number;
  readonly #missing = new Set<string>();
  #loadedEpoch = 0;
  #loading: Promise<unknown> | undefined;

  constructor(connection: RedisConnection, keyPrefix: string, timeout: number) {
    this.connection = connection;
    this.keyPrefix = keyPrefix;
    this.timeout = timeout;
  }

  key(streamKey: string): string {
    return this.keyPrefix + streamKey;
  }

  /** A key that belongs to another one: in Cluster it must be of the same slot. */
  besideKey(key: string, suffix: string): string {
    const hasTag = !this.connection.isCluster || /\{[^}]+\}/.test(key);
    return hasTag ? `${key}:${suffix}` : `{${key}}:${suffix}`;
  }

  /** Waits for the connection, which knows it. */
  async isCluster(): Promise<boolean> {
    await this.#client();
    return this.connection.isCluster;
  }

  /** The stream key of a key that Redis named. */
  streamKey(key: string): string {
    return key.slice(this.keyPrefix.length);
  }

  /** The reply with strings as Buffers. */
  async raw(name: string, args: readonly CommandArgument[]): Promise<unknown> {
    return this.#send(name, args, null);
  }

  /** The reply with strings as strings. */
  async text(name: string, args: readonly CommandArgument[]): Promise<unknown> {
    return this.#send(name, args, 'utf8');
  }

  /**
   * Sends to one master of a cluster alone, by its place among them; where there is no cluster, to the only one.
   * Undefined when there are not so many.
   */
  async textOfMaster(
    index: number,
    name: string,
    args: readonly CommandArgument[],
  ): Promise<{ reply: unknown; masters: number } | undefined> {
    const client = await this.#client();
    const { epoch } = this.connection;
    const masters = isCluster(client) ? client.nodes('master').sort(byAddress) : [client];
    const master = masters[index];
    if (!master) return undefined;
    try {
      return { reply: await master.sendCommand(command(name, args, 'utf8')), masters: masters.length };
    } catch (error) {
      throw this.#failure(error as Error, epoch);
    }
  }

  /** Sends all commands in one write; the outcome of each is its reply or its error. All must be of one hash slot. */
  async pipeline(
    commands: readonly PipelinedCommand[],
    encoding: 'utf8' | null = 'utf8',
    patience = this.timeout,
  ): Promise<unknown[]> {
    if (commands.length === 0) return [];
    const client = await this.#client(patience);
    const epoch = this.connection.epoch;
    // The type of a pipeline names the commands only; sending a Command object is what they all do.
    const pipeline = client.pipeline() as ReturnType<RedisClient['pipeline']> & { sendCommand(command: Command): void };
    for (const [name, ...args] of commands) pipeline.sendCommand(command(name, args, encoding));
    try {
      const results = (await pipeline.exec()) ?? [];
      return results.map(([error, reply]) => this.#checked(error ?? reply, epoch));
    } catch (error) {
      throw this.#failure(error as Error, epoch);
    }
  }

  /** Whether {@link decoded} is possible on this connection, which is waited for. */
  async canDecode(patience = this.timeout): Promise<boolean> {
    await this.#client(patience);
    return this.connection.isTapped;
  }

  /** Sends a command that reads its own replies, and resolves with them. Errors among them are as those of a pipeline. */
  async decoded<T>(sent: DecodedCommand<T>): Promise<T> {
    const client = await this.#client();
    const { epoch } = this.connection;
    await this.#dispatch(client, sent);
    return sent.decoder.result((error) => this.#failure(error, epoch));
  }

  /**
   * Runs a script on a key that has its prefix, by its digest, or by its source where the server has forgotten it.
   * Undefined when scripts are not permitted here; that is remembered, and the caller has another way.
   */
  async run(
    { source, sha }: Script,
    key: string,
    args: readonly CommandArgument[],
    encoding: 'utf8' | null = 'utf8',
  ): Promise<{ reply: unknown } | undefined> {
    if (this.#missing.has('scripts')) return undefined;
    const rest = [1, key, ...args];
    try {
      return { reply: await this.#evaluate(source, sha, rest, encoding) };
    } catch (error) {
      if (!this.lacks(error, 'scripts')) throw error;
      this.onMissing?.('scripts');
      return undefined;
    }
  }

  /**
   * Loads scripts that {@link runLoaded} will run, once for each connection. Whoever sends something that must keep its
   * place among their runs waits for this first. False when scripts are not permitted here.
   */
  async load(scripts: readonly Script[], patience: number): Promise<boolean> {
    if (!this.has('scripts')) return false;
    await this.#client(patience);
    const { epoch, isCluster } = this.connection;
    if (this.#loadedEpoch !== epoch) {
      this.#loadedEpoch = epoch;
      // No node of a cluster could load them for all, so that only their being permitted is to be known.
      this.#loading = isCluster
        ? this.#send('eval', ['return 1', 0], 'utf8')
        : Promise.all(scripts.map(({ source }) => this.#send('script', ['LOAD', source], 'utf8')));
    }
    try {
      await this.#loading;
      return true;
    } catch (error) {
      this.#loadedEpoch = 0;
      if (this.lacks(error, 'scripts')) {
        this.onMissing?.('scripts');
        return false;
      }
      // It was a node that need not have anything to do with what comes next.
      if (isCluster) return true;
      throw error;
    }
  }

  /**
   * Runs a script that was loaded, on keys that have their prefix; errors in the reply are as those of a pipeline. When the server has forgotten it, which
   * takes a SCRIPT FLUSH, the call fails as one to repeat: sending the source instead would lose its place. A cluster is
   * sent the source always, because there is no node on which it could be loaded for all.
   * @param encoder for calls of very many arguments
   */
  async runLoaded(
    { sha, source }: Script,
    keys: readonly string[],
    args: readonly CommandArgument[],
    encoder: AppendEncoder,
  ): Promise<unknown[]> {
    const { epoch, isCluster } = this.connection;
    const all: CommandArgument[] = [isCluster ? source : sha, keys.length, ...keys, ...args];
    try {
      const reply = await (isCluster ? this.#send('eval', all, 'utf8') : this.#sendEncoded('evalsha', all, encoder));
      return (reply as unknown[]).map((item) => this.#checked(item, epoch));
    } catch (error) {
      if (replyWord(error) === 'NOSCRIPT') this.#loadedEpoch = 0;
      throw error;
    }
  }

  /** Told once of each thing that the server does not have or does not permit, and that is therefore done in another way. */
  onMissing: ((what: string) => void) | undefined;

  has(feature: string): boolean {
    return !this.#missing.has(feature);
  }

  /** Remembers that a feature is missing when the error says so. */
  lacks(error: unknown, feature: string): boolean {
    const kind = classifyRedisError(error);
    if (kind !== 'unsupported' && kind !== 'permission') return false;
    this.#missing.add(feature);
    return true;
  }

  /** Does without a feature from now on. */
  forget(feature: string): void {
    this.#missing.add(feature);
  }

  async #evaluate(
    source: string,
    sha: string,
    rest: readonly CommandArgument[],
    encoding: 'utf8' | null,
  ): Promise<unknown> {
    try {
      return await this.#send('evalsha', [sha, ...rest], encoding);
    } catch (error) {
      if (replyWord(error) !== 'NOSCRIPT') throw error;
      return this.#send('eval', [source, ...rest], encoding);
    }
  }

  async #send(name: string, args: readonly CommandArgument[], encoding: 'utf8' | null): Promise<unknown> {
    return this.#dispatch(await this.#client(), command(name, args, encoding));
  }

  async #sendEncoded(name: string, args: readonly CommandArgument[], encoder: AppendEncoder): Promise<unknown> {
    const client = await this.#client();
    const bytes = encoder.encodeCommand(name, args);
    const reply = await this.#dispatch(client, new EncodedCommand(name, bytes));
    encoder.release(bytes);
    return reply;
  }

  async #dispatch(client: RedisClient, sent: Command): Promise<unknown> {
    const { epoch } = this.connection;
    try {
      return await client.sendCommand(sent);
    } catch (error) {
      throw this.#failure(error as Error, epoch);
    }
  }

  async #client(patience = this.timeout): Promise<RedisClient> {
    const live = this.connection.client;
    if (live) return live;
    const limit = AbortSignal.timeout(patience);
    try {
      return await this.connection.ready(limit);
    } catch (error) {
      if (!limit.aborted) throw error;
      throw new ConnectTimeoutError(this.connection.address, patience, this.connection.lastFailure);
    }
  }

  #checked(reply: unknown, epoch: number): unknown {
    return reply instanceof Error ? this.#failure(reply, epoch) : reply;
  }

  #failure(error: Error, epoch: number): Error {
    const kind = classifyRedisError(error);
    if (kind === 'failover') this.connection.drop(epoch);
    else if (kind === 'connection') this.connection.nodeLost(epoch);
    else if (SLOTS_MOVED.has(replyWord(error) ?? '')) this.connection.slotsMoved(epoch);
    if (kind !== 'connection' || error instanceof ConnectionError) return error;
    return new ConnectionError(`The connection to Redis at ${this.connection.address} was lost`, error);
  }
}

function command(name: string, args: readonly CommandArgument[], encoding: 'utf8' | null): Command {
  return new Command(name, args.map(writable), { replyEncoding: encoding });
}

function byAddress(one: Redis, other: Redis): number {
  const [first, second] = [one, other].map(({ options }) => `${options.host}:${options.port}`) as [string, string];
  return first < second ? -1 : Number(first > second);
}

/** ioredis writes Buffers as they are; any other view of bytes it would write as text. */
function writable(argument: CommandArgument): string | Buffer | number {
  if (typeof argument !== 'object' || Buffer.isBuffer(argument)) return argument;
  return Buffer.from(argument.buffer, argument.byteOffset, argument.byteLength);
}
