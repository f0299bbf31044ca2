import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import type { DeadLetterRow } from '../../src/api.js';
import { get, session, useLoaded } from '../data/client.js';
import { formatCount } from '../data/figures.js';
import { href, navigate, usePlace } from '../data/router.js';
import { useStore } from '../data/store.js';
import { formatDateTime } from '../data/time.js';
import { CopyButton } from '../ui/copy.js';
import { Facts, Heading } from '../ui/heading.js';
import { FailureBox } from '../ui/notices.js';
import { HeadersPanel, PayloadView } from '../ui/payload.js';
import { Age } from '../ui/time.js';
import { ChangeDialog } from './dead-letter-change.js';
import type { Planned, Way } from './dead-letter-change.js';

export function DeadLetterDetail({ stream, id }: { stream: string; id: string }): JSX.Element {
  const { query } = usePlace();
  const deadLetterStream = query.get('deadLetterStream');
  const asked = { stream, id, deadLetterStream };
  const load = (signal: AbortSignal): Promise<DeadLetterRow> => get('dead-letter', asked, signal);
  const { data, failure, reload } = useLoaded(JSON.stringify(asked), 'dead letter', load);
  const [way, setWay] = useState<Way | null>(null);
  const isReadOnly = useStore(session)?.readOnly ?? true;
  const listHref = href('dead-letters', { stream, deadLetterStream });
  const plan = (chosen: Way): Planned => ({
    way: chosen,
    filter: { stream, ...(deadLetterStream && { deadLetterStream }) },
    ids: [id],
    groups: data?.origin ? [data.origin.group] : [],
  });
  return (
    <>
      <Heading
        title={data?.error ? data.error.name : 'Dead letter'}
        crumbs={[
          { label: 'Streams', href: href('streams') },
          { label: stream, href: href('stream', { stream }) },
          { label: 'Dead letters', href: listHref },
        ]}
        aside={<span class="mono faint">{id}</span>}
      >
        {data && !isReadOnly && (
          <>
            <button type="button" class="button danger" onClick={() => setWay('delete')}>
              Delete…
            </button>
            <button type="button" class="button primary" onClick={() => setWay('redrive')}>
              Redrive…
            </button>
          </>
        )}
      </Heading>
      {failure && <FailureBox failure={failure} retry={reload} />}
      {!failure && (data ? <DeadLetterBody stream={stream} row={data} /> : <div class="panel loading tall" />)}
      {way && <ChangeDialog planned={plan(way)} onClose={() => setWay(null)} onDone={() => navigate(listHref)} />}
    </>
  );
}

function DeadLetterBody({ stream, row }: { stream: string; row: DeadLetterRow }): JSX.Element {
  const { error, origin, reason } = row;
  return (
    <>
      <Facts
        isStill
        facts={[
          ['Stored', <Age at={row.at} />],
          ['Time', formatDateTime(row.at)],
          ['Group', origin?.group ?? <span class="faint">unknown</span>],
          ['Consumer', origin?.consumer ?? <span class="faint">unknown</span>],
          ['Deliveries', formatCount(row.deliveries)],
        ]}
      />
      <section class="panel" aria-labelledby="error-title">
        <header>
          <h2 id="error-title">Why</h2>
          {error?.stack && <CopyButton text={error.stack} of="the stack" />}
        </header>
        <p class="why">{reason ?? 'It names no reason.'}</p>
        {error && (
          <p class="error">
            <strong>{error.name}</strong>: {error.message}
          </p>
        )}
        {error?.stack && (
          <pre class="raw stack" tabIndex={0} role="region" aria-label="Stack">
            {error.stack}
          </pre>
        )}
        {origin && (
          <p class="note">
            It was{' '}
            <a class="mono" href={href('message', { stream, id: origin.id })}>
              {origin.id}
            </a>{' '}
            of <code>{origin.key}</code>.
          </p>
        )}
      </section>
      <div class="message">
        <PayloadView payload={row.payload} />
        <HeadersPanel headers={otherHeaders(row)} />
      </div>
    </>
  );
}

/** Without the headers that the page shows as facts, error or origin; found by name, because other headers may have equal values. */
function otherHeaders({ headers, error, origin, reason, deliveries }: DeadLetterRow): DeadLetterRow['headers'] {
  const shown = new Set([
    ...(deliveries === null ? [] : ['dead-letter-delivery-count']),
    ...(reason === null ? [] : ['dead-letter-reason']),
    ...(error ? ['dead-letter-error-name', 'dead-letter-error-message', 'dead-letter-error-stack'] : []),
    ...(origin ? ['dead-letter-key', 'dead-letter-id', 'dead-letter-group', 'dead-letter-consumer'] : []),
  ]);
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !shown.has(name)));
}
