import { Inject } from '@nestjs/common';
import type { InjectionToken } from '@nestjs/common';

import { ClientRedisStreams } from './client/redis-streams.client.js';

type ProvidedClass = abstract new (...args: never[]) => unknown;

/**
 * The token of what the module provides for a connection: its client, or its `RedisStreamer` or `ServerRedisStreams`. For
 * the connection without a name it is the class itself; else a symbol, because the package may be loaded twice (ESM and
 * CommonJS).
 */
export function getRedisStreamsToken(name?: string, type: ProvidedClass = ClientRedisStreams): InjectionToken {
  return name === undefined ? type : Symbol.for(`nestjs-redis-streams:${type.name}:${name}`);
}

/** Injects the {@link ClientRedisStreams} of `RedisStreamsModule.forRoot`, of the connection with that name if one is given. */
export function InjectRedisStreams(name?: string, type?: ProvidedClass): PropertyDecorator & ParameterDecorator {
  return Inject(getRedisStreamsToken(name, type));
}
