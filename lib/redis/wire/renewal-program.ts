/**
 * The program of the thread that renews leases, as text: a thread needs no file then, so it starts from a bundle of one file too,
 * and no bundler, minifier or coverage tool rewrites it. It imports modules of Node.js alone, and speaks RESP by itself. It uses
 * no console, and it never prints or returns what it is given to log in with.
 *
 * It keeps one connection to each node that the main thread has named, and what the main thread has told last of each client. As
 * long as that comes in time the thread renews nothing; when it is overdue, the event loop of the main thread is blocked, and the
 * thread renews in its place:
 *
 * - `leases`: all leases of a client, in place of those before; `entries`: entries that have come since; `close`
 * - `left` of an entry is the rest of its time in a handler; an entry without it is renewed while the main thread shows life: by a
 *   message, or by the counter that it shares. So is an entry that was read since, whose id is at or behind `after`.
 * - A lease without entries is renewed while the main thread shows life. When the renewal that has succeeded was sent is written to a
 *   place in shared memory, in nanoseconds.
 * - After MOVED or ASK a lease is not renewed until the next `leases`; after READONLY the connection is made again.
 */
export const RENEWAL_PROGRAM = `'use strict';
const load = process.getBuiltinModule;
const { parentPort, workerData } = load('node:worker_threads');
const net = load('node:net');
const counter = new Int32Array(workerData.counter);
const renewals = new BigInt64Array(workerData.renewals);
const REPLY_LIMIT = 10000;
const MAX_DELAY = 30000;
const PAGE = 500;
const clients = new Map();
const nodes = new Map();
let counted = 0;
let lifeAt = performance.now();

let next = 0;
function read(data, at) {
  const end = data.indexOf('\\r\\n', at);
  if (end === -1) return undefined;
  const line = data.toString('latin1', at + 1, end);
  next = end + 2;
  switch (data[at]) {
    case 0x2b: return { value: line };
    case 0x2d: return { value: Object.assign(new Error(line), { isReply: true }) };
    case 0x3a: return { value: Number(line) };
    case 0x24: {
      const from = next;
      const length = Number(line);
      if (length < 0) return { value: null };
      if (data.length < from + length + 2) return undefined;
      next = from + length + 2;
      return { value: data.toString('latin1', from, from + length) };
    }
    case 0x2a: {
      const items = [];
      for (let left = Number(line); left > 0; left -= 1) {
        const item = read(data, next);
        if (!item) return undefined;
        items.push(item.value);
      }
      return { value: items };
    }
    default: throw new Error('unexpected reply: not RESP');
  }
}

function encode(words) {
  const text = words.map((word) => '$' + Buffer.byteLength(String(word)) + '\\r\\n' + word + '\\r\\n');
  return '*' + words.length + '\\r\\n' + text.join('');
}

class Node {
  constructor(id, access) {
    this.id = id;
    this.access = access;
    this.text = JSON.stringify(access);
    this.failures = 0;
    this.isClosed = false;
    this.waiting = [];
    this.open();
  }

  open() {
    this.ready = this.connect();
    this.ready.then(() => { this.failures = 0; }, (error) => this.failed(error));
  }

  connect() {
    const { endpoint, tls, login, timeout } = this.access;
    return new Promise((resolve, reject) => {
      let isReady = false;
      let reason;
      let data = Buffer.alloc(0);
      const waiting = [];
      const socket = tls ? load('node:tls').connect({ ...endpoint, ...tls }) : net.connect(endpoint);
      this.socket = socket;
      this.waiting = waiting;
      const limit = setTimeout(() => socket.destroy(new Error('not ready within ' + timeout + ' ms')), timeout);
      socket.setNoDelay(true);
      socket.setKeepAlive(true, 10000);
      socket.setTimeout(REPLY_LIMIT, () => {
        if (waiting.length > 0) socket.destroy(new Error('no reply within ' + REPLY_LIMIT + ' ms'));
      });
      socket.once(tls ? 'secureConnect' : 'connect', async () => {
        try {
          await Promise.all(login.map((command) => this.write(command)));
          await this.write(['CLIENT', 'SETNAME', 'nestjs-redis-streams:renewal']).catch((error) => {
            // Not permitted everywhere, and not needed. A server that is full answers the first command, and closes.
            if (!/^(NOPERM|ERR unknown)/i.test(error.message)) throw error;
          });
          clearTimeout(limit);
          isReady = true;
          resolve();
        } catch (error) {
          socket.destroy(error);
        }
      });
      socket.on('data', (chunk) => {
        data = data.length > 0 ? Buffer.concat([data, chunk]) : chunk;
        try {
          let at = 0;
          for (let reply = read(data, at); at < data.length && reply; reply = read(data, at)) {
            at = next;
            const { done, fail } = waiting.shift();
            if (reply.value instanceof Error) fail(reply.value);
            else done(reply.value);
          }
          data = data.subarray(at);
        } catch (error) {
          socket.destroy(error);
        }
      });
      socket.on('error', (error) => { reason = reason || error; });
      socket.on('close', () => {
        clearTimeout(limit);
        const error = Object.assign(reason || new Error('the connection was closed'), { isLoss: true });
        for (const { fail } of waiting.splice(0)) fail(error);
        reject(error);
        if (isReady && !this.isClosed) this.open();
      });
    });
  }

  failed({ message, code, isReply }) {
    if (this.isClosed) return;
    this.failures += 1;
    if (this.failures === 1) parentPort.postMessage({ node: this.id, failure: { message, code, isReply } });
    this.timer = setTimeout(() => this.open(), Math.min(MAX_DELAY, 250 * 2 ** this.failures));
  }

  write(command) {
    return new Promise((done, fail) => {
      this.waiting.push({ done, fail });
      this.socket.write(encode(command));
    });
  }

  async send(command) {
    await this.ready;
    return this.write(command);
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.timer);
    this.socket.destroy();
  }
}

function useNode([id, access]) {
  const known = nodes.get(id);
  if (known && known.text === JSON.stringify(access)) return;
  if (known) known.close();
  nodes.set(id, new Node(id, access));
}

function closeUnusedNodes() {
  const used = new Set();
  for (const { leases } of clients.values()) for (const { node } of leases.values()) used.add(node);
  for (const [id, node] of nodes) {
    if (used.has(id)) continue;
    nodes.delete(id);
    node.close();
  }
}

function schedule(client, wait) {
  clearTimeout(client.timer);
  client.timer = setTimeout(() => {
    schedule(client, client.every);
    const now = performance.now();
    const count = counter[0];
    if (count !== counted) lifeAt = now;
    counted = count;
    const isAlive = now - lifeAt < client.limit;
    for (const lease of client.leases.values()) {
      if (lease.isUnderWay || lease.isStopped || !nodes.has(lease.node)) continue;
      lease.isUnderWay = true;
      renew(lease, now, isAlive)
        .catch((error) => failed(client, lease, error))
        .finally(() => { lease.isUnderWay = false; });
    }
  }, wait);
}

async function renew(lease, now, isAlive) {
  const { entries, args } = lease;
  if (!entries) {
    if (!isAlive) return;
    const sentAt = process.hrtime.bigint();
    const isKept = (await runScript(lease, args)) === 1;
    if (isKept && lease.slot !== undefined) Atomics.store(renewals, lease.slot, sentAt);
    return;
  }
  const ids = [];
  for (const [id, end] of entries.ids) if (end === undefined ? isAlive : now < end) ids.push(id);
  if (isAlive && entries.after !== undefined) {
    const range = ['XPENDING', lease.key, entries.group, entries.after, '+', PAGE, entries.consumer];
    const rows = await nodes.get(lease.node).send(range);
    for (const [id] of rows) if (!entries.ids.has(id)) ids.push(id);
  }
  for (let at = 0; at < ids.length; at += PAGE) await renewEntries(lease, ids.slice(at, at + PAGE));
}

async function renewEntries(lease, ids) {
  if (!lease.isWithoutScripts) {
    try {
      return await runScript(lease, [...lease.args, ...ids]);
    } catch (error) {
      if (!error.isReply || !/^(NOPERM|ERR unknown command)/i.test(error.message)) throw error;
      lease.isWithoutScripts = true;
    }
  }
  const { key, entries: { group, consumer } } = lease;
  const node = nodes.get(lease.node);
  await Promise.all(ids.map(async (id) => {
    const [row] = await node.send(['XPENDING', key, group, id, id, 1, consumer]);
    // The idle time that was just seen guards against a consumer that takes the entry in between.
    if (row) await node.send(['XCLAIM', key, group, consumer, row[2], id, 'IDLE', 0, 'JUSTID']);
  }));
}

async function runScript({ node, script, key }, args) {
  const words = [1, key, ...args];
  try {
    return await nodes.get(node).send(['EVALSHA', script.sha, ...words]);
  } catch (error) {
    if (!error.isReply || !error.message.startsWith('NOSCRIPT')) throw error;
    return nodes.get(node).send(['EVAL', script.source, ...words]);
  }
}

function failed(client, lease, { message, isReply, isLoss }) {
  // A connection that is lost is made again, and reported where that fails.
  if (!isReply || isLoss) return;
  if (/^(MOVED|ASK) /.test(message)) lease.isStopped = true;
  // Where another node has become the master behind the same name, the next connection leads there.
  else if (message.startsWith('READONLY')) nodes.get(lease.node)?.socket.destroy();
  else parentPort.postMessage({ client: client.id, key: lease.key, failure: { message, isReply } });
}

function endOf(left) {
  return left === undefined ? undefined : performance.now() + left;
}

const handlers = {
  leases({ id, every, limit, nodes: named, leases }) {
    const client = clients.get(id) || { id };
    clients.set(id, client);
    named.forEach(useNode);
    client.every = every;
    client.limit = limit;
    client.leases = new Map(leases.map((lease) => {
      const { entries } = lease;
      if (entries) entries.ids = new Map(entries.ids.map((each, index) => [each, endOf(entries.left[index])]));
      return [lease.key, lease];
    }));
    closeUnusedNodes();
    schedule(client, every * 1.25);
  },
  entries({ id, key, ids }) {
    const entries = clients.get(id)?.leases.get(key)?.entries;
    if (entries) for (const each of ids) entries.ids.set(each, undefined);
  },
  close({ id }) {
    clearTimeout(clients.get(id)?.timer);
    clients.delete(id);
    closeUnusedNodes();
  },
};

parentPort.on('message', (message) => {
  lifeAt = performance.now();
  handlers[message.type](message);
});
`;
