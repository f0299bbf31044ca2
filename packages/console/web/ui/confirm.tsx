import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import { asRequestError } from '../data/client.js';
import type { RequestError } from '../data/client.js';
import { Dialog } from './dialog.js';
import { FailureBox } from './notices.js';

interface ConfirmProps<T> {
  readonly title: string;
  /** The button, such as `Redrive`. */
  readonly action: string;
  /** The button that changes nothing; `Cancel`, where the action is not called so itself. */
  readonly dismissal?: string;
  readonly isDangerous?: boolean;
  /** Says what would happen, without doing it. */
  readonly preview?: () => Promise<T>;
  readonly describe: (preview: T | null) => ComponentChildren;
  /** Whether there is anything to do. */
  readonly isPossible?: (preview: T) => boolean;
  /** Gets the preview that was confirmed; null where there is none. */
  readonly run: (preview: T | null) => Promise<void>;
  readonly onClose: () => void;
}

/** Asks before something changes; with a dry run, only when its result is shown. */
export function Confirm<T>(props: ConfirmProps<T>): JSX.Element {
  const { title, action, dismissal = 'Cancel', isDangerous, preview, describe, isPossible, run, onClose } = props;
  const [previewed, setPreviewed] = useState<T | null>(null);
  const [failure, setFailure] = useState<RequestError | null>(null);
  const [isRunning, setRunning] = useState(false);
  const attempt = (work: Promise<void>): void => {
    setFailure(null);
    setRunning(true);
    work.catch((error: unknown) => setFailure(asRequestError(error))).finally(() => setRunning(false));
  };
  const look = (): void => {
    if (preview) attempt(preview().then((result) => setPreviewed(() => result)));
  };
  useEffect(look, []);
  const isReady = !preview || (previewed !== null && (isPossible?.(previewed) ?? true));
  return (
    <Dialog title={title} onClose={onClose}>
      <div class="body" aria-live="polite" aria-busy={isRunning}>
        {preview && previewed === null && !failure ? <p class="faint">Counting…</p> : describe(previewed)}
        {failure && <FailureBox failure={failure} {...(preview && { retry: look })} />}
      </div>
      <footer>
        <button type="button" class="button" onClick={onClose}>
          {dismissal}
        </button>
        <button
          type="button"
          class={`button ${isDangerous ? 'danger' : 'primary'}`}
          disabled={!isReady || isRunning}
          onClick={() => attempt(run(previewed))}
        >
          {action}
        </button>
      </footer>
    </Dialog>
  );
}
