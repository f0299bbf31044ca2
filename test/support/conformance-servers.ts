import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';

import { setUser } from './acl.js';
import { FaultProxy } from './fault-proxy.js';
import { freePort } from './free-port.js';
import { endClient, nodeClient } from './node-client.js';
import { EncodingProxy } from './odd-clients.js';
import { RedisCluster } from './redis-cluster.js';
import { RedisServer } from './redis-server.js';
import { makeCertificate } from './tls-certificate.js';
import type { Certificate } from './tls-certificate.js';

/** May do everything but run scripts. */
const WITHOUT_SCRIPTS = '~* +@all -@scripting';
/** May neither end the reads of another connection nor choose the protocol. */
const WITHOUT_UNBLOCK = '~* +@all -client +client|id +client|setname -hello';

/** The users that exist on each server beside the default one; each has the password `pw`. */
const USERS: Readonly<Record<string, string>> = {
  all: '~* +@all',
  'no-scripts': WITHOUT_SCRIPTS,
  'no-unblock': WITHOUT_UNBLOCK,
  least: `${WITHOUT_UNBLOCK} -@scripting`,
};

/**
 * The servers of one spec file: one that listens on a port, on a port with TLS and on a Unix socket; and, once a way asks
 * for them, a sentinel that monitors it, a cluster of three masters, and proxies before both.
 */
export class ConformanceServers {
  readonly server: RedisServer;
  readonly admin: Redis;
  readonly certificate: Certificate;
  readonly tlsPort: number;
  readonly unixSocket: string;
  readonly #dir: string;
  readonly #ends: Array<() => unknown> = [];
  #sentinel: Promise<RedisServer> | undefined;
  #cluster: Promise<RedisCluster> | undefined;
  #clusterProxies: Promise<FaultProxy[]> | undefined;
  #encoding: Promise<EncodingProxy> | undefined;

  static async start(): Promise<ConformanceServers> {
    const certificate = makeCertificate();
    const dir = mkdtempSync(join(tmpdir(), 'unix-socket-'));
    const tlsPort = await freePort();
    const unixSocket = join(dir, 'redis.sock');
    const { certFile, keyFile } = certificate;
    const tls = ['--tls-port', String(tlsPort), '--tls-cert-file', certFile, '--tls-key-file', keyFile];
    const args = [...tls, '--tls-ca-cert-file', certFile, '--tls-auth-clients', 'no', '--unixsocket', unixSocket];
    const server = await RedisServer.start({ args: ['--appendonly', 'no', ...args] });
    const servers = new ConformanceServers(server, certificate, dir, tlsPort, unixSocket);
    await servers.#addUsers(servers.admin);
    return servers;
  }

  private constructor(server: RedisServer, certificate: Certificate, dir: string, tlsPort: number, unixSocket: string) {
    this.server = server;
    this.certificate = certificate;
    this.#dir = dir;
    this.tlsPort = tlsPort;
    this.unixSocket = unixSocket;
    this.admin = nodeClient(server.url);
  }

  /** A sentinel that monitors the server under the name `orders`. */
  sentinel(): Promise<RedisServer> {
    this.#sentinel ??= this.#startSentinel();
    return this.#sentinel;
  }

  cluster(): Promise<RedisCluster> {
    this.#cluster ??= this.#startCluster();
    return this.#cluster;
  }

  /** One for each master of the cluster. */
  clusterProxies(): Promise<FaultProxy[]> {
    this.#clusterProxies ??= this.#startProxies();
    return this.#clusterProxies;
  }

  /** The way to the server of clients with encoded bytes. */
  encoding(): Promise<EncodingProxy> {
    this.#encoding ??= this.#startEncoding();
    return this.#encoding;
  }

  async stop(): Promise<void> {
    for (const end of this.#ends.reverse()) await end();
    endClient(this.admin);
    await this.server.stop();
    this.certificate.remove();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  async #startSentinel(): Promise<RedisServer> {
    const config = `sentinel monitor orders ${this.server.host} ${this.server.port} 1\n`;
    const sentinel = await RedisServer.start({ config, args: ['--sentinel'] });
    this.#ends.push(() => sentinel.stop());
    return sentinel;
  }

  async #startCluster(): Promise<RedisCluster> {
    const cluster = await RedisCluster.start();
    this.#ends.push(() => cluster.stop());
    for (const { admin } of cluster.masters) await this.#addUsers(admin);
    return cluster;
  }

  async #startProxies(): Promise<FaultProxy[]> {
    const { masters } = await this.cluster();
    const proxies = await Promise.all(masters.map(({ server }) => FaultProxy.start(server.port)));
    this.#ends.push(() => proxies.forEach((proxy) => proxy.stop()));
    return proxies;
  }

  async #startEncoding(): Promise<EncodingProxy> {
    const proxy = await EncodingProxy.start(this.server.port);
    this.#ends.push(() => proxy.stop());
    return proxy;
  }

  async #addUsers(admin: Redis): Promise<void> {
    for (const [name, rules] of Object.entries(USERS)) await setUser(admin, name, rules);
  }
}
