import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import { formatAge, formatTime, isoTime, now, serverNow } from '../data/time.js';

/** A time of day in the viewer's zone, exact in its title. */
export function Moment({ at }: { at: number | null }): JSX.Element {
  return <Exact at={at}>{formatTime(at)}</Exact>;
}

/** `3 m 10 s ago`, which counts on. */
export function Age({ at }: { at: number | null }): JSX.Element {
  const [text, setText] = useState(() => formatAge(at, serverNow()));
  useEffect(() => {
    const renew = (): void => setText(formatAge(at, serverNow()));
    renew();
    return now.subscribe(renew);
  }, [at]);
  return <Exact at={at}>{text}</Exact>;
}

function Exact({ at, children }: { at: number | null; children: ComponentChildren }): JSX.Element {
  const iso = isoTime(at);
  if (iso !== null) {
    return (
      <time dateTime={iso} title={iso}>
        {children}
      </time>
    );
  }
  return (
    <span class="faint" title="The id was chosen by its producer. It has no time.">
      {children}
    </span>
  );
}
