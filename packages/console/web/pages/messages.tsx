import type { JSX } from 'preact';
import { useRef } from 'preact/hooks';

import type { MessagePage, MessageQuery, MessageRow } from '../../src/api.js';
import { get, session, useLoaded } from '../data/client.js';
import { countOf, formatBytes } from '../data/figures.js';
import { href, navigate, usePlace } from '../data/router.js';
import { useStore } from '../data/store.js';
import { Filters, TextField, TimeField } from '../ui/filters.js';
import { Icon } from '../ui/icon.js';
import { Empty, FailureBox, NoneInThisPart } from '../ui/notices.js';
import { PayloadPreview } from '../ui/payload.js';
import { Table } from '../ui/table.js';
import type { Column } from '../ui/table.js';
import { Moment } from '../ui/time.js';

const FILTERS = ['since', 'until', 'key', 'header', 'text'] as const;

export function MessagesTab({ stream, lastId }: { stream: string; lastId: string | null }): JSX.Element {
  const { query } = usePlace();
  const filters = Object.fromEntries(FILTERS.map((name) => [name, query.get(name)]));
  const isFiltered = FILTERS.some((name) => query.has(name));
  const isOldestFirst = query.get('order') === 'oldest';
  const after = query.get('after');
  const asked: MessageQuery = {
    stream,
    newest: !isOldestFirst,
    ...Object.fromEntries(Object.entries({ ...filters, after }).filter(([, value]) => value)),
  };
  const load = (signal: AbortSignal): Promise<MessagePage> => get('messages', { ...asked }, signal);
  const page = useLoaded(stream, JSON.stringify(asked), load);

  const order = isOldestFirst ? 'oldest' : '';
  const hrefWith = (change: Record<string, string | null>): string =>
    href('messages', { stream, ...filters, order, ...change });
  const { data } = page;
  return (
    <>
      <MessageFilters stream={stream} query={query} isFiltered={isFiltered} order={order} />
      <div class="toolbar">
        <div class="segments" role="group" aria-label="Order">
          <button type="button" aria-pressed={!isOldestFirst} onClick={() => navigate(hrefWith({ order: '' }))}>
            Newest first
          </button>
          <button type="button" aria-pressed={isOldestFirst} onClick={() => navigate(hrefWith({ order: 'oldest' }))}>
            Oldest first
          </button>
        </div>
        {!after && !isOldestFirst && !filters['until'] && (
          <Newer lastId={lastId} loaded={data} isLoading={page.isLoading} reload={page.reload} />
        )}
      </div>
      {page.failure && <FailureBox failure={page.failure} retry={page.reload} />}
      {!page.failure && data?.messages.length !== 0 && (
        <MessageTable stream={stream} rows={data?.messages ?? null} isLoading={page.isLoading} />
      )}
      {data?.messages.length === 0 && (
        <NoMessages page={data} isFiltered={isFiltered || after !== null} stream={stream} />
      )}
      {data && (
        <nav class="pages" aria-label="Pages">
          <span class="faint">{isFiltered && `${countOf(data.searched, 'entry', 'entries')} searched`}</span>
          {after && (
            <a class="button" href={hrefWith({})}>
              To the start
            </a>
          )}
          {data.next && (
            <a class="button" href={hrefWith({ after: data.next })}>
              {data.messages.length === 0 ? 'Search on' : isOldestFirst ? 'Later messages' : 'Earlier messages'}
            </a>
          )}
        </nav>
      )}
    </>
  );
}

interface FilterProps {
  readonly stream: string;
  readonly query: URLSearchParams;
  readonly isFiltered: boolean;
  readonly order: string;
}

function MessageFilters({ stream, query, isFiltered, order }: FilterProps): JSX.Element {
  const showsPayloads = useStore(session)?.showPayloads ?? false;
  return (
    <Filters
      label="Messages"
      hrefFor={({ id, ...values }) =>
        id ? href('message', { stream, id }) : href('messages', { stream, order, ...values })
      }
      clearHref={isFiltered ? href('messages', { stream, order }) : undefined}
    >
      <TimeField label="Since" name="since" value={query.get('since')} />
      <TimeField label="Until" name="until" value={query.get('until')} />
      <TextField label="Key" name="key" value={query.get('key')} placeholder="customer-17" />
      <TextField label="Header" name="header" value={query.get('header')} placeholder="name=value" />
      {showsPayloads && (
        <TextField label="Text" name="text" value={query.get('text')} placeholder="part of the payload" />
      )}
      <TextField label="Id" name="id" value="" placeholder="1764331200000-0" />
    </Filters>
  );
}

interface NewerProps {
  readonly lastId: string | null;
  readonly loaded: MessagePage | null;
  readonly isLoading: boolean;
  readonly reload: () => void;
}

/** Says that there is more, instead of moving the rows under the eyes of the reader. */
function Newer({ lastId, loaded, isLoading, reload }: NewerProps): JSX.Element {
  const known = useRef<{ page: MessagePage | null; lastId: string | null }>({ page: null, lastId: null });
  if (known.current.page !== loaded || known.current.lastId === null) known.current = { page: loaded, lastId };
  const hasNewer = lastId !== null && known.current.lastId !== null && known.current.lastId !== lastId;
  return (
    <button type="button" class={`button ${hasNewer ? 'primary' : ''}`} disabled={isLoading} onClick={reload}>
      <Icon name="refresh" />
      {hasNewer ? 'Show newer messages' : 'Reload'}
    </button>
  );
}

interface MessageTableProps {
  readonly stream: string;
  readonly rows: readonly MessageRow[] | null;
  readonly isLoading: boolean;
}

function MessageTable({ stream, rows, isLoading }: MessageTableProps): JSX.Element {
  const columns: ReadonlyArray<Column<MessageRow>> = [
    {
      key: 'id',
      label: 'Id',
      width: '13rem',
      render: ({ id, shard }) => (
        <a class="title mono" href={href('message', { stream, id, shard })}>
          {id}
        </a>
      ),
    },
    { key: 'time', label: 'Time', width: '11rem', render: ({ at }) => <Moment at={at} /> },
    { key: 'key', label: 'Key', width: '10rem', render: ({ key }) => key ?? <span class="faint">none</span> },
    {
      key: 'payload',
      label: 'Payload',
      render: ({ payload }) => <PayloadPreview payload={payload} />,
    },
    {
      key: 'size',
      label: 'Size',
      width: '5.5rem',
      isFigure: true,
      render: ({ payload }) => formatBytes(payload.bytes),
    },
  ];
  return (
    <Table
      caption={`Messages of ${stream}`}
      class={`messages ${isLoading && rows ? 'stale' : ''}`}
      columns={columns}
      rows={rows}
      rowKey={({ id, shard }) => `${shard} ${id}`}
      skeletons={12}
    />
  );
}

interface NoMessagesProps {
  readonly page: MessagePage;
  readonly isFiltered: boolean;
  readonly stream: string;
}

function NoMessages({ page, isFiltered, stream }: NoMessagesProps): JSX.Element {
  if (page.next) return <NoneInThisPart searched={countOf(page.searched, 'entry', 'entries')} />;
  return isFiltered ? (
    <Empty title="No message matches">
      <p>
        <a class="button" href={href('messages', { stream })}>
          Clear the filter
        </a>
      </p>
    </Empty>
  ) : (
    <Empty title="No messages">
      <p>The stream is empty: no message was sent yet, or all messages were trimmed.</p>
    </Empty>
  );
}
