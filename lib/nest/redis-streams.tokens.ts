import { Inject } from '@nestjs/common';
import type { InjectionToken } from '@nestjs/common';

import { ClientRedisStreams } from './redis-streams.client.js';

/** The token of the client of a connection. Symbols by name, because the package may be loaded twice (ESM and CommonJS). */
export function getRedisStreamsToken(name?: string): InjectionToken {
  return name === undefined ? ClientRedisStreams : Symbol.for(`nestjs-redis-streams:client:${name}`);
}

/** Injects the {@link ClientRedisStreams} of `RedisStreamsModule.forRoot`, of the connection with that name if one is given. */
export function InjectRedisStreams(name?: string): PropertyDecorator & ParameterDecorator {
  return Inject(getRedisStreamsToken(name));
}

/** The tokens under which one connection's providers are found; the default connection's are the classes themselves. */
export function namedToken<T>(type: abstract new (...args: never[]) => T, name: string | undefined): InjectionToken {
  return name === undefined ? type : Symbol.for(`nestjs-redis-streams:${type.name}:${name}`);
}
