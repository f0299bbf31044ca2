import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';
import { expect, it } from '@jest/globals';
import { useStreams } from '../support/streams.js';
import { RunningTool, runTool } from '../support/tool.js';

const streams = useStreams();

it('nrs console prints a URL with a token, serves the built pages to its browser, and ends at Ctrl+C', async () => {
  await streams.redis.xadd('orders', '1-0', 'msg', 'secret');
  const tool = new RunningTool(
    ['console', '--port', '0', '--json', '--payloads', '--stream', 'orders', '--allow-host', 'box.test'],
    {
      url: streams.url,
    },
  );
  await tool.untilPrinted('token=');
  const [url = ''] = /http:[^"]+/.exec(tool.stdout) ?? [];
  const admitted = await fetch(url, { redirect: 'manual', headers: { connection: 'close' } });
  const cookie = String(admitted.headers.get('set-cookie')).split(';')[0] ?? '';
  const get = (path: string, headers = {}) =>
    fetch(new URL(path, url), { headers: { connection: 'close', ...headers } });
  expect((await get('/console/')).status).toBe(401);
  const statusAt = async (host: string): Promise<number | undefined> => {
    const [answer] = (await once(request(url, { headers: { host, cookie }, agent: false }).end(), 'response')) as [
      IncomingMessage,
    ];
    answer.resume();
    return answer.statusCode;
  };
  expect([await statusAt('box.test'), await statusAt('other.test')]).toEqual([303, 403]);
  const page = await (await get('/console/', { cookie })).text();
  const [asset = ''] = /assets\/app-\w+\.js/i.exec(page) ?? [];
  expect((await get(`/console/${asset}`, { cookie })).status).toBe(200);
  const message = await (await get('/console/api/message?stream=orders&id=1-0', { cookie })).json();
  expect(message).toMatchObject({ payload: { text: 'secret' } });
  tool.child.kill('SIGINT');
  expect(await tool.ended).toMatchObject({ code: 0, stderr: '' });
});

it('nrs console says that its port is in use', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  const { code, stdout, stderr } = await runTool(['console', '--port', String(port)], { url: streams.url });
  taken.close();
  expect({ code, stdout, stderr }).toEqual({
    code: 1,
    stdout: '',
    stderr: `nrs: The port ${port} is in use; --port 0 takes a free one\n`,
  });
});
