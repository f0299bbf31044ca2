import { EventEmitter } from 'node:events';
import { inspect } from 'node:util';

import { afterEach, describe, expect, it } from '@jest/globals';
import type { Cluster } from 'ioredis';

import type { ClientFactory } from '../../lib/redis/connection/client-factory.js';
import { ClusterTopology } from '../../lib/redis/connection/cluster-topology.js';

/** The client that discovers a cluster, as far as the topology uses it. */
class FakeCluster extends EventEmitter {
  readonly status = 'connecting';
  readonly options = {};
  readonly slots: string[][] = [];

  nodes(): [] {
    return [];
  }

  refreshSlotsCache(): void {
    // The test emits what discovery finds.
  }

  disconnect(): void {
    this.emit('end');
  }
}

const open: ClusterTopology[] = [];
afterEach(() => {
  for (const topology of open.splice(0)) topology.close();
});

function discover(): { cluster: FakeCluster; topology: ClusterTopology } {
  const cluster = new FakeCluster();
  const factory = { createCluster: () => cluster as unknown as Cluster } as ClientFactory;
  const topology = new ClusterTopology(factory, { connectTimeout: 1_000, replyTimeout: 1_000, blockTimeout: 1_000 });
  open.push(topology);
  topology.open();
  return { cluster, topology };
}

describe('cluster topology', () => {
  it('counts failures of discovery from its last success on, so that an outage is not logged each time', () => {
    const { cluster, topology } = discover();
    const attempts: number[] = [];
    topology.on('failure', (_, attempt) => attempts.push(attempt));

    cluster.emit('error', new Error('none answers'));
    cluster.emit('error', new Error('none answers'));
    cluster.emit('refresh');
    cluster.emit('node error', new Error('refused'));

    expect(attempts).toEqual([1, 2, 1]);
  });

  it('fails for the credentials when all nodes refuse them, and not while another node may accept them', () => {
    const { cluster, topology } = discover();
    const refusal = Object.assign(new Error('WRONGPASS invalid username-password pair'), {
      name: 'ReplyError',
      command: { name: 'auth', args: [] },
    });
    const all = (): Error => Object.assign(new Error('Failed to refresh slots cache.'), { lastNodeError: refusal });

    cluster.emit('node error', refusal);
    expect(topology.lastFailure).toBeUndefined();
    cluster.emit('node error', new Error('connect ECONNREFUSED'));
    cluster.emit('error', all());
    expect(topology.lastFailure?.message).toBe('connect ECONNREFUSED');

    cluster.emit('node error', refusal);
    cluster.emit('error', all());
    expect(topology.lastFailure?.message).toBe(refusal.message);
  });

  it('keeps the failure of a node without the command that failed, which may hold a password', () => {
    const { cluster, topology } = discover();
    const refusal = Object.assign(new Error('WRONGPASS invalid username-password pair'), {
      name: 'ReplyError',
      command: { name: 'auth', args: ['secret'] },
    });

    cluster.emit('error', Object.assign(new Error('Failed to refresh slots cache.'), { lastNodeError: refusal }));

    expect(topology.lastFailure).toMatchObject({ name: 'ReplyError', message: refusal.message });
    expect(inspect(topology.lastFailure, { depth: 9 })).not.toContain('secret');
  });
});
