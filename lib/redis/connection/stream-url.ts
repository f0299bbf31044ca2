import { InvalidOptionError } from '../../errors.js';
import { check } from '../../shared/option-checks.js';
import { connectionTarget } from './connection-target.js';
import type { RedisStreamsConnection } from './connection-target.js';

/** What a stream URL names. */
export interface StreamUrl {
  /** Where Redis is: a URL without the streams; or a Cluster, when the stream URL has several nodes. */
  readonly connection: RedisStreamsConnection;
  /** Keys of the streams, in the order of the URL. */
  readonly streamKeys: string[];
}

const FORM =
  "must be a stream URL, as redis://host:6379/orders,payments: 'redis' or 'rediss', nodes, '/', keys of streams";

/**
 * Takes a URL of sea-streamer apart, which has streams where the URLs of Redis have the number of a database.
 * @throws InvalidOptionError
 * @example
 * const { connection, streamKeys } = parseStreamUrl('redis://localhost:6379/orders,payments');
 * const streamer = await RedisStreamer.connect(connection);
 * const consumer = await streamer.createConsumer(streamKeys, { mode: 'real-time' });
 */
export function parseStreamUrl(url: string): StreamUrl {
  check.string('url', url);
  const [, scheme, nodes, path] = /^(rediss?:\/\/)([^/?#\s]+)\/([^/?#]*)$/i.exec(url.trim()) ?? [];
  // It may have a password.
  if (scheme === undefined || nodes === undefined || path === undefined) {
    throw InvalidOptionError.withoutValue('url', FORM);
  }
  const streamKeys = path
    .split(',')
    .map(decodedKey)
    .filter((key) => key !== '');
  if (streamKeys.length === 0) throw InvalidOptionError.withoutValue('url', `${FORM}; it names no stream`);
  const hosts = nodes.split(',');
  if (hosts.includes('')) throw InvalidOptionError.withoutValue('url', `${FORM}; it has an empty node`);
  const urls = hosts.map((node) => `${scheme}${node}`);
  const connection = urls.length === 1 ? (urls[0] as string) : { cluster: urls };
  connectionTarget(connection);
  return { connection, streamKeys: [...new Set(streamKeys)] };
}

function decodedKey(key: string): string {
  try {
    return decodeURIComponent(key);
  } catch {
    throw new InvalidOptionError(
      'url',
      'must have keys whose % signs are percent-encoded, as by encodeURIComponent()',
      key,
    );
  }
}
