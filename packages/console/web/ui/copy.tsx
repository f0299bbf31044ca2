import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import { Icon } from './icon.js';
import { tell } from './notices.js';

export function CopyButton({ text, of }: { text: string; of: string }): JSX.Element {
  const [isDone, setDone] = useState(false);
  useEffect(() => {
    if (!isDone) return;
    const timer = setTimeout(() => setDone(false), 1_500);
    return () => clearTimeout(timer);
  }, [isDone]);
  const copy = (): void => {
    // Without TLS, browsers have no clipboard except on this machine.
    const written = navigator.clipboard?.writeText(text) ?? Promise.reject(new Error('no clipboard'));
    written.then(
      () => setDone(true),
      () => tell('The browser does not let this page use the clipboard: it needs https.', true),
    );
  };
  return (
    <button type="button" class="quiet" aria-label={isDone ? `Copied ${of}` : `Copy ${of}`} title="Copy" onClick={copy}>
      <Icon name={isDone ? 'check' : 'copy'} />
    </button>
  );
}
