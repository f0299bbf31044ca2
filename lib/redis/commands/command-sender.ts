import { ConnectionError } from '../../errors.js';
import type { ConnectionRouter, LiveRoute } from '../connection/connection-router.js';
import type { Script } from '../scripts/script.js';
import type { SendSettings } from '../wire/command-channel.js';
import { ConnectionLost } from '../wire/resp-reader.js';
import type { ReplyEncoding } from '../wire/reply-handler.js';
import type { Command, CommandArgument } from '../wire/resp-writer.js';
import type { StreamPage } from '../wire/stream-entry.js';
import { areScriptsDenied, classifyRedisError, replyWord } from './redis-error.js';
import type { ServerFeatures } from './server-features.js';
import { sideKey } from './side-key.js';
import type { SideKeyKind } from './side-key.js';

/** Most redirections of one command; if the slot moves more often within a moment, the caller repeats the command. */
export const MAX_REDIRECTIONS = 5;

/**
 * Sends commands to the node that serves their key: prefixes keys, waits for the connection to be live, follows
 * redirections, turns a lost connection into {@link ConnectionError}, and drops the connection when its node turns out to be
 * no master. It repeats nothing that may have run.
 */
export class CommandSender {
  readonly router: ConnectionRouter;
  readonly features: ServerFeatures;
  readonly keyPrefix: string;
  /** How long a command waits for a connection, in milliseconds. */
  readonly timeout: number;

  constructor(router: ConnectionRouter, features: ServerFeatures, keyPrefix: string, timeout: number) {
    this.router = router;
    this.features = features;
    this.keyPrefix = keyPrefix;
    this.timeout = timeout;
  }

  key(streamKey: string): string {
    return this.keyPrefix + streamKey;
  }

  /** The stream key of a key that Redis named. */
  streamKey(key: string): string {
    return key.slice(this.keyPrefix.length);
  }

  /** The key of data beside a stream or shard. @throws InvalidOptionError, see {@link sideKey} */
  sideKey(kind: SideKeyKind, streamKey: string, ...parts: readonly string[]): string {
    return sideKey(this.keyPrefix, kind, this.key(streamKey), ...parts);
  }

  /** One command on a key that has its prefix; strings of the reply as text. */
  async text(key: string, command: Command): Promise<unknown> {
    return this.#send(key, ({ channel }, settings) => channel.command(command, 'utf8', settings));
  }

  /** The same with strings as Buffers. */
  async raw(key: string, command: Command): Promise<unknown> {
    return this.#send(key, ({ channel }, settings) => channel.command(command, 'buffer', settings));
  }

  /**
   * XREAD or XREADGROUP, of which `key` is one stream, or two of them: see {@link CommandChannel.pages}. ASKING holds for one command, so
   * that only the first is sent while a slot is being migrated.
   */
  async pages(key: string, commands: readonly Command[], onCount?: (entries: number) => void): Promise<StreamPage[]> {
    return this.#send(key, ({ channel, beforeRead }, settings) => {
      beforeRead?.();
      const reads = settings.isAsking ? commands.slice(0, 1) : commands;
      return channel.pages(reads, (name) => this.streamKey(name), settings, onCount);
    });
  }

  /**
   * Sends all commands in one write; the outcome of each is its reply or its error.
   * @param keys of all commands, or one for each of them; in Cluster the node of the first must serve all
   */
  async pipeline(
    keys: string | readonly string[],
    commands: readonly Command[],
    encoding: ReplyEncoding = 'utf8',
  ): Promise<unknown[]> {
    if (commands.length === 0) return [];
    const keyOf = (index: number): string => (typeof keys === 'string' ? keys : (keys[index] as string));
    const route = await this.router.ready(keyOf(0), this.timeout);
    const outcomes = await route.channel.commands(commands, encoding, settingsOf(route));
    return Promise.all(
      outcomes.map(async (outcome, index) => {
        if (!(outcome instanceof Error)) return outcome;
        const key = keyOf(index);
        if (!this.router.redirected(key, outcome, route)) return this.failure(outcome, route);
        return this.#redirected(key, commands[index] as Command, encoding);
      }),
    );
  }

  /**
   * Sends to one master of a cluster, by its place among them; outside of Cluster to the only one. Undefined when there are
   * not so many.
   */
  async textOfMaster(index: number, command: Command): Promise<{ reply: unknown; masters: number } | undefined> {
    const found = await this.router.readyNode(index, this.timeout);
    if (!found) return undefined;
    const { route, nodes } = found;
    try {
      return { reply: await route.channel.command(command, 'utf8'), masters: nodes };
    } catch (error) {
      throw this.failure(error as Error, route);
    }
  }

  /**
   * Runs a script on a key that has its prefix, or on several of one slot: by its digest, or by its source when the server does
   * not have it. Undefined when scripts are not permitted here; that is remembered, and the caller has another way.
   */
  async run(
    script: Script,
    keys: string | readonly [string, ...string[]],
    args: readonly CommandArgument[],
    encoding: ReplyEncoding = 'utf8',
  ): Promise<{ reply: unknown } | undefined> {
    return this.#run(script, typeof keys === 'string' ? [keys] : keys, args, ({ channel }, command, settings) =>
      channel.command(command, encoding, settings),
    );
  }

  /** The same for a script that replies as XREADGROUP does. */
  async runPages(
    script: Script,
    keys: readonly [string, ...string[]],
    args: readonly CommandArgument[],
  ): Promise<{ reply: StreamPage[] } | undefined> {
    return this.#run(script, keys, args, ({ channel }, command, settings) =>
      channel.pages([command], (name) => this.streamKey(name), settings),
    );
  }

  /** The error for the caller of a command that failed; the connection is dropped, or the slots refreshed, where that follows. */
  failure(error: Error, route: LiveRoute): Error {
    const kind = classifyRedisError(error);
    if (kind === 'failover') route.connection.drop(route.epoch);
    else if (kind === 'connection' || replyWord(error) === 'CLUSTERDOWN') this.router.failed(route);
    if (!(error instanceof ConnectionLost)) return error;
    const { address } = route.connection;
    return new ConnectionError(`The connection to Redis at ${address} was lost: ${error.message}`, error);
  }

  async #run<T>(
    { source, sha }: Script,
    keys: readonly [string, ...string[]],
    args: readonly CommandArgument[],
    sendTo: (route: LiveRoute, command: Command, settings: SendSettings) => Promise<T>,
  ): Promise<{ reply: T } | undefined> {
    if (!this.features.has('scripts')) return undefined;
    const words = [keys.length, ...keys, ...args];
    const send = async (command: Command): Promise<{ reply: T }> => {
      return { reply: await this.#send(keys[0], (route, settings) => sendTo(route, command, settings)) };
    };
    try {
      return await send(['EVALSHA', sha, ...words]).catch((error: unknown) => {
        if (replyWord(error) !== 'NOSCRIPT') throw error;
        return send(['EVAL', source, ...words]);
      });
    } catch (error) {
      return this.#withoutScripts(error);
    }
  }

  /** @throws the error, unless it means that scripts are not permitted */
  #withoutScripts(error: unknown): undefined {
    if (!areScriptsDenied(error)) throw error;
    this.features.forget('scripts');
    return undefined;
  }

  async #send<T>(key: string, send: (route: LiveRoute, settings: SendSettings) => Promise<T>): Promise<T> {
    for (let redirections = 0; ; redirections += 1) {
      const route = this.router.find(key) ?? (await this.router.ready(key, this.timeout));
      try {
        return await send(route, settingsOf(route));
      } catch (error) {
        const canFollow = this.router.redirected(key, error as Error, route) && redirections < MAX_REDIRECTIONS;
        if (!canFollow) throw this.failure(error as Error, route);
      }
    }
  }

  async #redirected(key: string, command: Command, encoding: ReplyEncoding): Promise<unknown> {
    try {
      return await this.#send(key, ({ channel }, settings) => channel.command(command, encoding, settings));
    } catch (error) {
      return error;
    }
  }
}

const PLAIN: SendSettings = Object.freeze({});
const ASKING: SendSettings = Object.freeze({ isAsking: true });

export function settingsOf({ isAsking }: LiveRoute): SendSettings {
  return isAsking ? ASKING : PLAIN;
}
