import { afterAll, afterEach, beforeAll } from '@jest/globals';
import { Redis } from 'ioredis';

import type { RedisConnection } from '../../lib/redis/connection/redis-connection.js';
import { RedisConnections } from '../../lib/redis/connection/redis-connections.js';
import type { ReadInterrupt } from '../../lib/redis/connection/read-interrupt.js';
import { redisStreamCommands } from '../../lib/redis/commands/redis-stream-commands.js';
import type { CommandOptions } from '../../lib/redis/commands/redis-stream-commands.js';
import { ServerFeatures } from '../../lib/redis/commands/server-features.js';
import type { StreamCommands } from '../../lib/redis/commands/stream-commands.js';
import type { CommandChannel } from '../../lib/redis/wire/command-channel.js';
import type { RedisStreamsConnection } from '../../lib/redis/connection/connection-target.js';
import type { RedisStreamsLogger } from '../../lib/shared/logger.js';
import { ConformanceServers } from './conformance-servers.js';
import { fieldText } from './field-text.js';
import { uniqueName } from './redis.js';
import type { OpenWay, Way } from './ways.js';

/** Milliseconds. */
const TIMES = { connectTimeout: 10_000, replyTimeout: 10_000, blockTimeout: 10_000 };
const TIMEOUT = 10_000;

/** A reader connection and its commands. */
export interface BenchReader {
  readonly connection: RedisConnection;
  readonly reading: StreamCommands['reading'];
  readonly interrupt: ReadInterrupt;
}

interface CommandSettings {
  readonly keyPrefix?: string;
  readonly features?: ServerFeatures;
}

/** Starts the servers of a spec file before its tests. */
export function useServers(): () => ConformanceServers {
  let servers: ConformanceServers | undefined;
  beforeAll(async () => {
    servers = await ConformanceServers.start();
  });
  afterAll(() => servers?.stop());
  return () => servers as ConformanceServers;
}

/** Opens a way before the tests of a describe block, with the environment that belongs to it. */
function useWay(way: Way, servers: () => ConformanceServers): () => OpenWay {
  const name = 'NESTJS_REDIS_STREAMS_WIRE';
  const before = process.env[name];
  let open: OpenWay | undefined;
  beforeAll(async () => {
    // Read when a connection is constructed, in Cluster as late as when a node is first needed.
    if (way.isSwitchedOff) process.env[name] = 'ioredis';
    open = await way.connect(servers());
  });
  afterAll(() => {
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
    open?.close?.();
  });
  return () => open as OpenWay;
}

/**
 * The command layer over one way, for the tests of a describe block. Its connections are opened before the first test and
 * closed after the last one; reader connections are closed after each test.
 */
export class CommandBench {
  readonly way: Way;
  /** Fills {@link debugLines} and {@link warnings}. */
  readonly logger: RedisStreamsLogger;
  /** Lines that were logged for debugging. */
  readonly debugLines: string[] = [];
  readonly warnings: string[] = [];
  readonly #servers: () => ConformanceServers;
  readonly #admins = new Map<string, Redis>();
  readonly #readers: RedisConnection[] = [];
  readonly #open: () => OpenWay;
  #connections: RedisConnections | undefined;
  #commands: { writing: StreamCommands; control: StreamCommands } | undefined;
  #version = 0;

  constructor(way: Way, servers: () => ConformanceServers) {
    this.way = way;
    this.#servers = servers;
    const warn = (line: string): unknown => this.warnings.push(line);
    this.logger = { error: warn, warn, log: () => undefined, debug: (line) => void this.debugLines.push(line) };
    this.#open = useWay(way, servers);
    beforeAll(async () => {
      this.#connections = new RedisConnections(this.connection, TIMES, this.logger);
      await this.#connections.connect(TIMEOUT);
      this.#commands = this.commandsWith({
        features: new ServerFeatures((what) => this.connections.reportMissing(what)),
      });
      this.#version = versionIn(await this.#servers().admin.info('server'));
    });
    afterEach(async () => {
      await Promise.all(this.#readers.splice(0).map((reader) => this.connections.release(reader)));
    });
    afterAll(async () => {
      await this.#connections?.close();
      for (const admin of this.#admins.values()) admin.disconnect();
    });
  }

  /** For other connections that go the same way. */
  get connection(): RedisStreamsConnection {
    return this.#open().connection;
  }

  get connections(): RedisConnections {
    return this.#connections as RedisConnections;
  }

  /** Commands over the writer connection. */
  get writing(): StreamCommands {
    return (this.#commands as { writing: StreamCommands }).writing;
  }

  /** Commands over the control connection. */
  get control(): StreamCommands {
    return (this.#commands as { control: StreamCommands }).control;
  }

  /** Version of the server, as 7.2 for 7.2.4; of Valkey, the version of Redis with which it is compatible. */
  get version(): number {
    return this.#version;
  }

  /** Whether ids of the form `<ms>-*` can be appended: before Redis 7.0 that needs scripts. */
  get hasPartialIds(): boolean {
    return this.#version >= 7 || this.way.may.scripts;
  }

  /** A stream key that no other test uses. */
  key(): string {
    return uniqueName('stream');
  }

  /** Keys that can be read together: in Cluster those of one slot. */
  keysTogether(count: number): string[] {
    const tag = uniqueName('tag');
    return Array.from({ length: count }, (_, index) => `{${tag}}-${index}`);
  }

  /** A plain client for the node that serves a key, to look at the server from outside. */
  async admin(key: string): Promise<Redis> {
    const servers = this.#servers();
    const { url } = this.way.isCluster ? (await (await servers.cluster()).masterOf(key)).server : servers.server;
    let admin = this.#admins.get(url);
    if (!admin) {
      admin = new Redis(url, { protocol: 2, db: this.way.database });
      this.#admins.set(url, admin);
    }
    return admin;
  }

  /** The entries of a stream: ids, and names and values as {@link fieldText}. */
  async stored(key: string): Promise<Array<[id: string, fields: string[]]>> {
    const entries = (await (await this.admin(key)).xrangeBuffer(key, '-', '+')) as Array<[Buffer, Buffer[]]>;
    return entries.map(([id, fields]) => [id.toString(), fieldText(fields)]);
  }

  commandsWith({ keyPrefix = '', features = new ServerFeatures() }: CommandSettings): {
    writing: StreamCommands;
    control: StreamCommands;
  } {
    const { writer, control } = this.connections;
    const options = optionsOf(keyPrefix);
    return {
      writing: redisStreamCommands(writer, features, options),
      control: redisStreamCommands(control, features, options),
    };
  }

  /** The live channel of the writer or control connection that serves a key. */
  async channel(role: 'writer' | 'control', key: string): Promise<CommandChannel> {
    return (await this.connections[role].ready(key, TIMEOUT)).channel;
  }

  /** A reader connection, in Cluster to the node that serves the key. */
  async reader(key: string): Promise<BenchReader> {
    const connection = this.connections.acquireReader(key);
    this.#readers.push(connection);
    const router = this.connections.routerOf(connection, key);
    await router.ready(key, TIMEOUT);
    return {
      connection,
      reading: redisStreamCommands(router, new ServerFeatures(), optionsOf('')).reading,
      interrupt: this.connections.interruptOf(connection),
    };
  }
}

const optionsOf = (keyPrefix: string): CommandOptions => ({ keyPrefix, timeout: TIMEOUT, timestampFormat: 'ms' });

function versionIn(info: string): number {
  return Number.parseFloat(/^redis_version:(\d+\.\d+)/m.exec(info)?.[1] ?? '0');
}
