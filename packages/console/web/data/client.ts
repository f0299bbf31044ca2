import { useCallback, useEffect, useRef, useState } from 'preact/hooks';

import type { Failure, Session } from '../../src/api.js';
import { base } from './router.js';
import { Store } from './store.js';

/** Null until the server has answered. */
export const session = new Store<Session | null>(null);

/** What the server refused, or did not answer at all: then `status` is 0. */
export class RequestError extends Error {
  readonly status: number;
  readonly code: string | null;

  constructor(status: number, { message, code }: Failure) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function asRequestError(error: unknown): RequestError {
  return error instanceof RequestError ? error : new RequestError(0, { message: String(error), code: null });
}

type Query = Readonly<Record<string, string | number | boolean | null | undefined>>;

export async function get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  const url = new URL(`api/${path}`, base);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '' && value !== false) {
      url.searchParams.set(name, String(value));
    }
  }
  return request<T>(url, { signal: signal ?? null });
}

export async function post<T>(path: string, body: unknown): Promise<T> {
  return request<T>(new URL(`api/${path}`, base), {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-nrs-console': '1' },
    body: JSON.stringify(body),
  });
}

async function request<T>(url: URL, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(url, { ...init, credentials: 'same-origin' });
  } catch (error) {
    if ((error as Error).name === 'AbortError') throw error;
    throw new RequestError(0, { message: 'The application does not answer.', code: null });
  }
  const answer: unknown = await response.json().catch(() => null);
  if (!response.ok) throw new RequestError(response.status, failureOf(answer, response));
  return answer as T;
}

/** Guards of the application answer in their own way. */
function failureOf(answer: unknown, response: Response): Failure {
  const { message, code } = (answer ?? {}) as { message?: unknown; code?: unknown };
  return {
    message:
      typeof message === 'string' ? message : `The application answered ${response.status} ${response.statusText}`,
    code: typeof code === 'string' ? code : null,
  };
}

export interface Loaded<T> {
  /** The last answer; of the request before, while another one is on its way. */
  readonly data: T | null;
  readonly failure: RequestError | null;
  readonly isLoading: boolean;
  reload(): void;
}

/** Loads when the key changes, and forgets its data when the subject changes. */
export function useLoaded<T>(subject: string, key: string, load: (signal: AbortSignal) => Promise<T>): Loaded<T> {
  const [state, setState] = useState<{ subject: string; key: string; data: T | null; failure: RequestError | null }>();
  const [round, setRound] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  const id = `${key} ${round}`;
  useEffect(() => {
    const abort = new AbortController();
    latest.current(abort.signal).then(
      (data) => {
        if (!abort.signal.aborted) setState({ subject, key: id, data, failure: null });
      },
      (error: unknown) => {
        if (abort.signal.aborted) return;
        setState({ subject, key: id, data: null, failure: asRequestError(error) });
      },
    );
    return () => abort.abort();
  }, [subject, id]);
  const reload = useCallback(() => setRound((count) => count + 1), []);
  const current = state?.subject === subject ? state : undefined;
  return { data: current?.data ?? null, failure: current?.failure ?? null, isLoading: current?.key !== id, reload };
}
