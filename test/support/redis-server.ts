import { RedisServer } from './private-server.ts';
import { describeServer, findServerBinary, installServer, WAYS_TO_GET_REDIS } from './server-binary.ts';
import { untilAnswering } from './server-probe.ts';

export { RedisServer, type RedisServerOptions } from './private-server.ts';

/** A running server, usable until `stop()`. */
export interface RedisHandle {
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** A readable description of where the server comes from. */
  readonly origin: string;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface AcquireOptions {
  /** `container` always starts a container. Default: `REDIS_SOURCE`, otherwise `any`. */
  source?: 'any' | 'container';
  /** Additional settings for a private server; ignored for `REDIS_URL` and for a container. */
  args?: readonly string[];
  /** Default: `process.env`. */
  env?: NodeJS.ProcessEnv;
}

const DEFAULT_IMAGE = 'redis:8-alpine';
const REDIS_PORT = 6379;
const GIVEN_SERVER_LIMIT = 3_000;

/**
 * Decides where the Redis of tests, samples and benchmarks comes from: `REDIS_URL`; otherwise a private server from
 * `REDIS_SERVER_BIN` or the PATH; otherwise a container; otherwise, as root on Debian or Ubuntu, a private server from
 * a package that it installs; otherwise it throws an error that lists these ways.
 */
export async function acquireRedis(options: AcquireOptions = {}): Promise<RedisHandle> {
  const { args = [], env = process.env } = options;
  const { source = env['REDIS_SOURCE'] === 'container' ? 'container' : 'any' } = options;
  if (source === 'container') return startContainer(env);

  const url = env['REDIS_URL'];
  if (url) return useGiven(url);

  const found = findServerBinary(env);
  if (found) return startPrivate(found.path, found.how, args);

  if ((await containerRuntimeProblem()) === undefined) return startContainer(env);

  const installed = await installServer(env);
  if (installed) return startPrivate(installed.path, installed.how, args);

  throw new Error(`No Redis server is available. Ways to get one:\n- ${WAYS_TO_GET_REDIS.join('\n- ')}`);
}

async function useGiven(url: string): Promise<RedisHandle> {
  const { hostname: host, port, protocol } = new URL(url);
  const address = { host, port: port === '' ? REDIS_PORT : Number(port) };
  // A TLS server cannot be probed in plain text; the first client will report if it is down.
  if (protocol === 'redis:' && !(await untilAnswering(address.host, address.port, GIVEN_SERVER_LIMIT))) {
    throw new Error(`REDIS_URL is set, but nothing answers at ${address.host}:${address.port}`);
  }
  return handle(
    { url, ...address, origin: `the server that REDIS_URL names, ${host}:${address.port}` },
    async () => {},
  );
}

async function startPrivate(bin: string, how: string, args: readonly string[]): Promise<RedisHandle> {
  const server = await RedisServer.start({ bin, args: ['--appendonly', 'no', ...args] });
  const origin = `a private ${describeServer(bin)} on port ${server.port} (${bin}, ${how})`;
  return handle({ url: server.url, host: server.host, port: server.port, origin }, () => server.stop());
}

async function startContainer(env: NodeJS.ProcessEnv): Promise<RedisHandle> {
  const problem = await containerRuntimeProblem();
  if (problem !== undefined) throw new Error(`No container runtime such as Docker to start Redis in: ${problem}`);

  const image = env['REDIS_IMAGE'] || DEFAULT_IMAGE;
  const { GenericContainer } = await import('testcontainers');
  const container = await new GenericContainer(image).withExposedPorts(REDIS_PORT).start();
  const address = { host: container.getHost(), port: container.getMappedPort(REDIS_PORT) };
  const url = `redis://${address.host}:${address.port}`;
  return handle(
    { url, ...address, origin: `the container image ${image} at ${address.host}:${address.port}` },
    async () => {
      await container.stop();
    },
  );
}

/**
 * The reason why containers cannot be used, or undefined. It asks the runtime, because an installed `docker` program
 * proves nothing.
 */
async function containerRuntimeProblem(): Promise<string | undefined> {
  const { getContainerRuntimeClient } = await import('testcontainers');
  try {
    await getContainerRuntimeClient();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function handle(
  server: Pick<RedisHandle, 'url' | 'host' | 'port' | 'origin'>,
  release: () => Promise<void>,
): RedisHandle {
  let stopping: Promise<void> | undefined;
  const stop = () => (stopping ??= release());
  return { ...server, stop, [Symbol.asyncDispose]: stop };
}
