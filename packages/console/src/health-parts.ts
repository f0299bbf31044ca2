import type { DiscoveryService } from '@nestjs/core';
import { ClientRedisStreams, RedisStreamer, ServerRedisStreams } from 'nestjs-redis-streams';
import type { StreamerHealth } from 'nestjs-redis-streams';
import type { HealthPart, HealthUpdate } from './api.js';
import type { HealthSource, ResolvedConsoleOptions } from './console.options.js';
import { loopRows } from './loop-rows.js';
import type { StreamPolicy } from './stream-policy.js';

/** Finds the parts of the application that have read loops, and asks them how they are. */
export class HealthParts {
  readonly #discovery: DiscoveryService;
  readonly #given: ResolvedConsoleOptions['health'];

  constructor(discovery: DiscoveryService, { health }: Pick<ResolvedConsoleOptions, 'health'>) {
    this.#discovery = discovery;
    this.#given = health;
  }

  async look(policy: StreamPolicy): Promise<HealthUpdate> {
    const parts = await Promise.all([...this.#sources()].map(([source, name]) => partOf(name, source, policy)));
    const inUse = parts.filter((part) => part !== undefined);
    return { isHealthy: inUse.every(({ isHealthy }) => isHealthy), parts: inUse, at: Date.now() };
  }

  /** Each with its name, once: a provider may have several tokens. */
  #sources(): Map<HealthSource, string> {
    const found = new Map<HealthSource, string>();
    for (const [name, source] of Object.entries(this.#given())) found.set(source, name);
    for (const { instance, token, name } of this.#discovery.getProviders()) {
      if (!isSource(instance) || found.has(instance)) continue;
      found.set(instance, instance instanceof ServerRedisStreams ? 'server' : nameOf(token ?? name));
    }
    return found;
  }
}

function isSource(instance: unknown): instance is HealthSource {
  return [ServerRedisStreams, ClientRedisStreams, RedisStreamer].some((kind) => instance instanceof kind);
}

function nameOf(token: unknown): string {
  if (typeof token === 'function') return token.name;
  return typeof token === 'symbol' ? (token.description ?? 'client') : String(token);
}

/** Undefined for a part that was never used: a look must not connect it. */
async function partOf(name: string, source: HealthSource, policy: StreamPolicy): Promise<HealthPart | undefined> {
  const streamer = source instanceof RedisStreamer ? source : source.unwrap<RedisStreamer>();
  const { status, isClosed, loops } = streamer.stats();
  const isServer = source instanceof ServerRedisStreams;
  if (!isServer && status === 'disconnected' && !isClosed && loops.length === 0) return undefined;
  const health: StreamerHealth = isServer ? await source.health() : await streamer.health();
  return {
    name,
    isHealthy: health.isHealthy,
    status: health.isClosed ? 'closed' : health.status,
    reconnects: health.reconnects,
    loops: loopRows(health.loops, policy),
  };
}
