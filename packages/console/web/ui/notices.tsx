import type { ComponentChildren, JSX } from 'preact';

import { RequestError } from '../data/client.js';
import { href } from '../data/router.js';
import { Store, useStore } from '../data/store.js';
import { Icon } from './icon.js';

/** Milliseconds that a notice stays. */
const NOTICE_TIME = 8_000;

/** The result of the last change, shown and read out. */
const notice = new Store<{ text: string; isBad: boolean } | null>(null);
let ending: ReturnType<typeof setTimeout> | undefined;

export function tell(text: string, isBad = false): void {
  clearTimeout(ending);
  notice.set({ text, isBad });
  ending = setTimeout(() => notice.set(null), NOTICE_TIME);
}

export function Notice(): JSX.Element {
  const current = useStore(notice);
  return (
    <div class="notices" role="status" aria-live="polite">
      {current && (
        <div class={`notice ${current.isBad ? 'bad' : ''}`}>
          <span>{current.text}</span>
          <button type="button" class="quiet" aria-label="Close the notice" onClick={() => notice.set(null)}>
            <Icon name="close" />
          </button>
        </div>
      )}
    </div>
  );
}

/** What to do, by what happened. */
function adviceOn({ status, code }: RequestError): string {
  if (code === 'ERR_PERMISSION') {
    return 'The Redis user of this application may not run a command that the console needs. Allow it with ACL SETUSER.';
  }
  if (code === 'ERR_CONNECTION')
    return 'Look whether Redis runs, and whether this application reaches it. The page renews itself.';
  if (status === 0) return 'Look whether the application runs. The page connects again by itself.';
  if (status === 401) return 'Sign in to the application again, then load this page.';
  if (status === 403) return 'The application refuses this. Its guards and the option readOnly decide about that.';
  if (status === 404) return 'It may have been deleted, or the console may not show it.';
  if (status === 400) return 'Change the filter, then try again.';
  if (status === 429) return 'Wait a moment, then try again.';
  return 'The log of the application has the details. Try again when it is mended.';
}

export function FailureBox({ failure, retry }: { failure: RequestError; retry?: () => void }): JSX.Element {
  return (
    <div class="box bad" role="alert">
      <div>
        <strong>{failure.message}</strong>
        {failure.code && <code class="code">{failure.code}</code>}
        <p>{adviceOn(failure)}</p>
      </div>
      {retry && (
        <button type="button" class="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }): JSX.Element {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** In place of a page of a search that looked at a part and found nothing in it. */
export function NoneInThisPart({ searched }: { searched: string }): JSX.Element {
  return (
    <Empty title={`None of ${searched} matches`}>
      <p>A search looks at a part of the stream at a time. Search on for the next part, or narrow the time.</p>
    </Empty>
  );
}

export function AllStreamsLink(): JSX.Element {
  return (
    <a class="button" href={href('streams')}>
      Show all streams
    </a>
  );
}
