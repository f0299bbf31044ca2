import { Cluster, Redis } from 'ioredis';
import type { RedisOptions } from 'ioredis';
import type { Command } from 'commander';
import { PermissionError, RedisStreamer } from 'nestjs-redis-streams/engine';
import type { RedisStreamsConnection, StreamManager } from 'nestjs-redis-streams/engine';
import { explained } from './client-errors.js';
import { FailedError, UsageError } from './failure.js';
import { Output } from './output.js';
import { ask, askHidden, canAsk } from './terminal.js';
import { durationOption } from './time.js';

/** What every command takes. */
export interface GlobalOptions {
  url?: string;
  cluster?: boolean;
  prefix?: string;
  timeout: string;
  json?: boolean;
  yes?: boolean;
}

const DEFAULT_URL = 'redis://127.0.0.1:6379';

export function addGlobalOptions(program: Command): void {
  program
    .option('--url <url>', `address of Redis (default: REDIS_URL, else ${DEFAULT_URL})`)
    .option('--cluster', 'the server of the URL is a node of a Redis Cluster')
    .option('--prefix <prefix>', 'prefix of every key, as keyPrefix of the application')
    .option('--timeout <time>', 'time limit for connecting to Redis and for each answer', '10s')
    .option('--json', 'print JSON')
    .option('-y, --yes', 'do not ask for confirmation');
}

/**
 * What a command works with: the connection, which is opened on first use, what it prints to, and the questions that it asks.
 * One command has one session; {@link action} ends it.
 */
export class Session {
  readonly output: Output;
  readonly #options: GlobalOptions;
  #streamer: Promise<RedisStreamer> | undefined;
  #redis: Redis | Cluster | undefined;
  /** That of the URL goes first. */
  #password: string | undefined = process.env['REDIS_PASSWORD'] ?? process.env['REDISCLI_AUTH'];
  #interruption: AbortController | undefined;

  constructor(options: GlobalOptions) {
    this.#options = options;
    this.output = new Output({ isJson: options.json === true });
  }

  /** Prefix of all keys, which the methods of streamer and manager put before them. */
  get prefix(): string {
    return this.#options.prefix ?? '';
  }

  /** The user of the connection. */
  get username(): string {
    return decodeURIComponent(new URL(this.#url).username) || 'default';
  }

  async manager(): Promise<StreamManager> {
    return (await this.streamer()).createManager();
  }

  /** @throws UsageError, InvalidOptionError, or why Redis cannot be used */
  streamer(): Promise<RedisStreamer> {
    this.#streamer ??= this.#connect();
    return this.#streamer;
  }

  /**
   * A client for the little that the library has no method for. It is reached when {@link streamer} was. It never repeats a
   * command by itself; {@link action} puts what it throws into words.
   */
  async redis(): Promise<Redis | Cluster> {
    await this.streamer();
    if (this.#redis === undefined || this.#redis.status === 'end') this.#redis = this.#client();
    return this.#redis;
  }

  /** Milliseconds in which Redis has to be reached, and to answer. */
  get timeout(): number {
    return durationOption('--timeout', this.#options.timeout, '10s');
  }

  /**
   * Asks at a terminal whether to go ahead; elsewhere `--yes` is the answer.
   * @throws UsageError without a terminal and `--yes`, FailedError when the answer is no
   */
  async confirm(...question: readonly string[]): Promise<void> {
    if (this.#options.yes) return;
    if (!canAsk()) {
      throw new UsageError(`Without a terminal, --yes is required. ${question[0]}`);
    }
    await this.output.note(...question);
    const answer = await ask('Go ahead? [y/N] ');
    if (!/^y(es)?$/i.test(answer?.trim() ?? '')) throw new FailedError('Nothing was changed');
  }

  /** Aborts at Ctrl+C and SIGTERM, which then no longer end the process: the command has to. */
  interruption(): AbortSignal {
    if (!this.#interruption) {
      const interruption = new AbortController();
      this.#interruption = interruption;
      for (const signal of ['SIGINT', 'SIGTERM'] as const) {
        process.once(signal, () => interruption.abort(new Error(`Interrupted by ${signal}`)));
      }
    }
    return this.#interruption.signal;
  }

  /**
   * For a command that has stopped at {@link interruption}, and has printed what it did until then.
   * @throws FailedError if there was one
   */
  checkInterruption(rest: string): void {
    const signal = this.#interruption?.signal;
    if (signal?.aborted) throw new FailedError(`${(signal.reason as Error).message}; ${rest}`);
  }

  async end(): Promise<void> {
    this.#redis?.disconnect();
    const streamer = await this.#streamer?.catch(() => undefined);
    await streamer?.disconnect();
  }

  async #connect(): Promise<RedisStreamer> {
    try {
      return await this.#tryToConnect();
    } catch (error) {
      if (!isLoginMissing(error) || this.#password !== undefined || !canAsk()) throw error;
      this.#password = await askHidden('Password of Redis: ');
      return this.#tryToConnect();
    }
  }

  async #tryToConnect(): Promise<RedisStreamer> {
    // Before, each attempt that fails would be noted, and the error of the last one says the same.
    let isConnected = false;
    const note = (message: string): void => {
      if (isConnected) void this.output.note(`nrs: ${message}`);
    };
    const streamer = await RedisStreamer.connect(this.#connection(), {
      keyPrefix: this.prefix,
      timeout: this.timeout,
      logger: { error: note, warn: note, log: () => undefined },
    });
    isConnected = true;
    return streamer;
  }

  #connection(): RedisStreamsConnection {
    const url = this.#url;
    return this.#options.cluster ? { cluster: [url] } : url;
  }

  get #url(): string {
    const { url: given } = this.#options;
    const url = given ?? process.env['REDIS_URL'] ?? DEFAULT_URL;
    if (!/^rediss?:\/\//.test(url)) {
      const name = given === undefined ? 'REDIS_URL' : '--url';
      // Without the value: it may have a password anywhere.
      throw new UsageError(`${name} must be a URL that begins with redis:// or rediss://, in lower case`);
    }
    if (this.#password === undefined || !URL.canParse(url)) return url;
    const complete = new URL(url);
    if (complete.password === '') complete.password = encodeURIComponent(this.#password);
    return complete.href;
  }

  /** The streamer was connected with the same URL, and has checked it. */
  #client(): Redis | Cluster {
    const url = this.#url;
    const { timeout } = this;
    const options = { ...NO_REPETITION, commandTimeout: timeout, connectTimeout: timeout };
    const client = this.#options.cluster ? clusterOf(new URL(url), options) : new Redis(url, options);
    // What fails, fails the command that was called; without a listener it would be printed as well.
    client.on('error', () => undefined);
    return client;
  }
}

/** A command may have been carried out before its connection was lost, so that only the caller knows whether to repeat it. */
const NO_REPETITION = { maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false } as const;

/** Whether the server wants a password, and none was given. */
function isLoginMissing(error: unknown): boolean {
  return error instanceof PermissionError && error.cause instanceof Error && error.cause.message.startsWith('NOAUTH');
}

/** Nodes that are discovered are reached with the user and password of the one that is given. */
function clusterOf({ protocol, hostname, port, username, password }: URL, options: RedisOptions): Cluster {
  const redisOptions: RedisOptions = {
    username: decodeURIComponent(username) || undefined,
    password: decodeURIComponent(password) || undefined,
    ...(protocol === 'rediss:' && { tls: {} }),
    ...options,
  };
  const node = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 6379) };
  return new Cluster([node], {
    redisOptions,
    slotsRefreshTimeout: Number(options.commandTimeout),
    retryDelayOnFailover: 0,
    // A cluster that lacks a master answers for the others.
    enableReadyCheck: false,
    clusterRetryStrategy: () => null,
  });
}

/**
 * The action of a command: gives it a session, its arguments and its options, those of the program included.
 * @param run throws what ends the command with another exit code than 0
 */
export function action<Args extends readonly unknown[], Options extends object = object>(
  run: (session: Session, args: Args, options: Options & GlobalOptions) => Promise<void>,
) {
  return async (...given: unknown[]): Promise<void> => {
    const command = given.at(-1) as Command;
    const options = command.optsWithGlobals<Options & GlobalOptions>();
    const session = new Session(options);
    try {
      await run(session, command.processedArgs as unknown as Args, options);
    } catch (error) {
      throw explained(error, session.timeout);
    } finally {
      await session.end();
    }
  };
}

/** Examples for the end of a command's help: what to type, and what that does. */
export function examples(...pairs: ReadonlyArray<readonly [command: string, effect: string]>): string {
  return `\nExamples:\n${pairs.map(([command, effect]) => `  $ ${command}\n      ${effect}`).join('\n')}\n`;
}
