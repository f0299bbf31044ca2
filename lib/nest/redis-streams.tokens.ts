import { Inject } from '@nestjs/common';
import type { InjectionToken, Type } from '@nestjs/common';

import { RedisStreamer } from '../engine/streamer.js';
import { ClientRedisStreams } from './client/redis-streams.client.js';
import { RedisStreamsHealthIndicator } from './health/redis-streams-health.indicator.js';
import { ServerRedisStreams } from './server/redis-streams.server.js';

/** Written out, because a bundler that minifies gives several classes the same name. */
const PROVIDED = new Map<Type, string>([
  [ClientRedisStreams, 'ClientRedisStreams'],
  [RedisStreamer, 'RedisStreamer'],
  [ServerRedisStreams, 'ServerRedisStreams'],
  [RedisStreamsHealthIndicator, 'RedisStreamsHealthIndicator'],
]);

/**
 * The token of a provider of `RedisStreamsModule`: of the client, or of the given class, `RedisStreamer`,
 * `ServerRedisStreams` or `RedisStreamsHealthIndicator`. For the connection without a name it is the class itself; else a
 * symbol, because the package may be loaded twice (ESM and CommonJS).
 * @example
 * ```ts
 * const client = app.get<ClientRedisStreams>(getRedisStreamsToken('billing'));
 * ```
 */
export function getRedisStreamsToken(name?: string, type: Type = ClientRedisStreams): InjectionToken {
  return name === undefined ? type : Symbol.for(`nestjs-redis-streams:${PROVIDED.get(type) ?? type.name}:${name}`);
}

/** The token of the options of a module. @internal */
export function optionsToken(name: string | undefined): InjectionToken {
  return Symbol.for(`nestjs-redis-streams:options:${name ?? ''}`);
}

/**
 * Injects the {@link ClientRedisStreams} of `RedisStreamsModule`, or an instance of the given class; `name` picks the
 * connection.
 * @example
 * ```ts
 * constructor(
 *   @InjectRedisStreams() private readonly client: ClientRedisStreams,
 *   @InjectRedisStreams('billing', RedisStreamer) private readonly billing: RedisStreamer,
 * ) {}
 * ```
 */
export function InjectRedisStreams(name?: string, type?: Type): PropertyDecorator & ParameterDecorator {
  return Inject(getRedisStreamsToken(name, type));
}
