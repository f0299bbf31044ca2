import type { INestApplication } from '@nestjs/common';

/** The answer of an HTTP route: its status, and its body parsed as JSON where it is JSON. */
export interface HttpAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** Lets an application listen on a free port, and returns a function that posts to it. */
export async function gatewayOf(app: INestApplication): Promise<(path: string, body?: unknown) => Promise<HttpAnswer>> {
  await app.listen(0, '127.0.0.1');
  const url = await app.getUrl();
  return async (path, body = {}) => {
    const response = await fetch(url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', connection: 'close' },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, body: jsonOr(text) };
  };
}

function jsonOr(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}
