import { Cluster, Redis } from 'ioredis';
import type { RedisOptions } from 'ioredis';

import type { RedisStreamsConnection } from '../../lib/index.js';
import type { ConformanceServers } from './conformance-servers.js';
import { clientOverDuplex, clientWithEncodedBytes, clientWithoutCork } from './odd-clients.js';

/** One way to reach Redis and to send over the connection. */
export interface Way {
  readonly name: string;
  readonly isCluster: boolean;
  /** Whether ioredis writes the commands and decodes the replies. */
  readonly isPlain: boolean;
  /** Whether the take-over of the socket is switched off by the environment. */
  readonly isSwitchedOff: boolean;
  /** Whether the user of the connection may run scripts, and end blocked reads. */
  readonly may: { readonly scripts: boolean; readonly unblock: boolean };
  /** Number of the database; 0 in Cluster. */
  readonly database: number;
  connect(servers: ConformanceServers): Promise<OpenWay>;
}

export interface OpenWay {
  readonly connection: RedisStreamsConnection;
  /** Ends what the connection does not end itself. */
  close?(): void;
}

type Connect = (servers: ConformanceServers) => RedisStreamsConnection | Promise<RedisStreamsConnection>;
type Traits = Partial<Omit<Way, 'name' | 'connect'>>;

const ALL_PERMISSIONS = { scripts: true, unblock: true };
const NO_SCRIPTS = { scripts: false, unblock: true };
const NO_UNBLOCK = { scripts: true, unblock: false };
const PLAIN: Traits = { isPlain: true };
const SWITCHED_OFF: Traits = { isPlain: true, isSwitchedOff: true };
const CLUSTER: Traits = { isCluster: true };

/** Ready clients that are kept for a function which must return one at once. */
const READY_CLIENTS = 6;

function way(name: string, connect: Connect, traits: Traits = {}): Way {
  return {
    name,
    isCluster: false,
    isPlain: false,
    isSwitchedOff: false,
    may: ALL_PERMISSIONS,
    database: 0,
    connect: async (servers) => ({ connection: await connect(servers) }),
    ...traits,
  };
}

const optionsOf = ({ server: { host, port } }: ConformanceServers): RedisOptions => ({ host, port });

const asUser = (servers: ConformanceServers, username: string): RedisOptions => ({
  ...optionsOf(servers),
  username,
  password: 'pw',
});

const clusterAs = async (servers: ConformanceServers, username: string): Promise<RedisStreamsConnection> => ({
  ...(await servers.cluster()).connection,
  options: { redisOptions: { username, password: 'pw' } },
});

export const A_URL = way('a URL', ({ server }) => server.url);

/** The documented form; with ioredis 6 its clients negotiate RESP3 before this package sees them. */
export const A_CONNECTING_CLIENT = way(
  'a function that returns a connecting client',
  ({ server }) =>
    () =>
      new Redis(server.url),
);

export const NO_SCRIPTS_USER = way('a user who may not run scripts', (servers) => asUser(servers, 'no-scripts'), {
  may: NO_SCRIPTS,
});

export const PLAIN_URL = way('a URL, by ioredis alone', ({ server }) => server.url, SWITCHED_OFF);

export const A_CLUSTER = way('Cluster', async (servers) => (await servers.cluster()).connection, CLUSTER);

/** Every way over which the cases run. */
export const WAYS: readonly Way[] = [
  A_URL,
  way('options', optionsOf),
  way('a Unix socket', ({ unixSocket }) => ({ path: unixSocket })),
  way('TLS', ({ tlsPort, certificate: { ca } }) => ({ host: '127.0.0.1', port: tlsPort, tls: { ca } })),
  way('a user with a password, in database 3', (servers) => ({ ...asUser(servers, 'all'), db: 3 }), { database: 3 }),
  way(
    'a URL with a user, a password and database 3',
    ({ server: { host, port } }) => `redis://all:pw@${host}:${port}/3`,
    { database: 3 },
  ),
  way('Sentinel', async (servers) => {
    const { host, port } = await servers.sentinel();
    return { sentinels: [{ host, port }], name: 'orders' };
  }),
  way(
    'a function that returns a lazy client',
    ({ server }) =>
      () =>
        new Redis(server.url, { lazyConnect: true }),
  ),
  A_CONNECTING_CLIENT,
  way(
    'a function that returns a connecting client with TLS, a password and database 3',
    ({ tlsPort, certificate: { ca } }) => {
      const options = { host: '127.0.0.1', port: tlsPort, tls: { ca }, username: 'all', password: 'pw', db: 3 };
      return () => new Redis(options);
    },
    { database: 3 },
  ),
  { ...way('a function that returns a ready client', () => ''), connect: withReadyClients },
  way(
    'a function that returns a client over a Duplex',
    ({ server }) =>
      () =>
        clientOverDuplex(server.port),
  ),
  way(
    'a function that returns a client whose stream cannot be corked',
    ({ server }) =>
      () =>
        clientWithoutCork(server.port),
    PLAIN,
  ),
  way(
    'a function that returns a client whose stream encodes its bytes',
    async (servers) => {
      const { port } = await servers.encoding();
      return () => clientWithEncodedBytes(port);
    },
    PLAIN,
  ),
  NO_SCRIPTS_USER,
  way('a user who may use neither CLIENT UNBLOCK nor HELLO', (servers) => asUser(servers, 'no-unblock'), {
    may: NO_UNBLOCK,
  }),
  PLAIN_URL,
  way(
    'options with automatic pipelines, by ioredis alone',
    (servers) => ({ ...optionsOf(servers), enableAutoPipelining: true }),
    SWITCHED_OFF,
  ),
  way(
    'a function that returns a connecting client, by ioredis alone',
    ({ server }) =>
      () =>
        new Redis(server.url),
    SWITCHED_OFF,
  ),
  way('a user with the least permissions, by ioredis alone', (servers) => asUser(servers, 'least'), {
    ...SWITCHED_OFF,
    may: { scripts: false, unblock: false },
  }),
  A_CLUSTER,
  way(
    'a function that returns a Cluster',
    async (servers) => {
      const { cluster } = (await servers.cluster()).connection;
      return () => new Cluster(cluster);
    },
    CLUSTER,
  ),
  way(
    'Cluster behind natMap',
    async (servers) => (await servers.cluster()).connectionThrough(await servers.clusterProxies()),
    CLUSTER,
  ),
  way('Cluster, a user who may not run scripts', (servers) => clusterAs(servers, 'no-scripts'), {
    ...CLUSTER,
    may: NO_SCRIPTS,
  }),
  way('Cluster, by ioredis alone', async (servers) => (await servers.cluster()).connection, {
    ...CLUSTER,
    ...SWITCHED_OFF,
  }),
];

async function withReadyClients({ server }: ConformanceServers): Promise<OpenWay> {
  const pool: Redis[] = [];
  let isClosed = false;
  const fill = async (): Promise<void> => {
    const client = new Redis(server.url);
    await client.ping();
    if (isClosed) client.disconnect();
    else pool.push(client);
  };
  await Promise.all(Array.from({ length: READY_CLIENTS }, fill));
  return {
    connection: () => {
      const client = pool.shift();
      if (client?.status !== 'ready') throw new Error('no client is ready');
      void fill();
      return client;
    },
    close: () => {
      isClosed = true;
      for (const client of pool) client.disconnect();
    },
  };
}
