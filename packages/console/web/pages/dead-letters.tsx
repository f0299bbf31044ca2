import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import type { DeadLetterFilter, DeadLetterPage, DeadLetterRow } from '../../src/api.js';
import { get, session, useLoaded } from '../data/client.js';
import { countOf, formatCount } from '../data/figures.js';
import { href, usePlace } from '../data/router.js';
import { useStore } from '../data/store.js';
import { Filters, TextField, TimeField } from '../ui/filters.js';
import { Empty, FailureBox, NoneInThisPart } from '../ui/notices.js';
import { PayloadPreview } from '../ui/payload.js';
import { Table } from '../ui/table.js';
import type { Column } from '../ui/table.js';
import { Age } from '../ui/time.js';
import { ChangeDialog } from './dead-letter-change.js';
import type { Planned, Way } from './dead-letter-change.js';

const FILTERS = ['group', 'reason', 'error', 'since', 'until', 'deadLetterStream'] as const;

export function DeadLettersTab({ stream }: { stream: string }): JSX.Element {
  const { query } = usePlace();
  const given = FILTERS.filter((name) => query.get(name)).map((name) => [name, query.get(name)]);
  const filter: DeadLetterFilter = { stream, ...(Object.fromEntries(given) as Partial<DeadLetterFilter>) };
  const after = query.get('after');
  const key = JSON.stringify({ ...filter, after });
  const page = useLoaded(stream, key, (signal) => get<DeadLetterPage>('dead-letters', { ...filter, after }, signal));
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const [planned, setPlanned] = useState<Planned | null>(null);
  useEffect(() => setSelected(new Set()), [key]);

  const rows = page.data?.deadLetters ?? null;
  const chosen = (rows ?? []).filter(({ id }) => selected.has(id));
  const done = (): void => {
    setPlanned(null);
    setSelected(new Set());
    page.reload();
  };
  return (
    <>
      <DeadLetterFilters filter={filter} isFiltered={given.length > 0} />
      {rows && rows.length > 0 && (
        <Toolbar
          chosen={chosen.length}
          isFiltered={given.length > 0}
          plan={(way) => {
            const affected = chosen.length > 0 ? chosen : rows;
            const isAll = chosen.length > 0 || (!page.data?.next && !after);
            const known = affected.flatMap(({ origin }) => (origin ? [origin.group] : []));
            const groups = filter.group ? [filter.group] : isAll ? [...new Set(known)] : [];
            setPlanned({ way, filter, groups, ...(chosen.length > 0 && { ids: chosen.map(({ id }) => id) }) });
          }}
        />
      )}
      {page.failure && <FailureBox failure={page.failure} retry={page.reload} />}
      {!page.failure && rows?.length !== 0 && (
        <DeadLetterTable
          filter={filter}
          rows={rows}
          isLoading={page.isLoading}
          selected={selected}
          select={(ids, isSelected) => {
            const next = new Set(selected);
            for (const id of ids) {
              if (isSelected) next.add(id);
              else next.delete(id);
            }
            setSelected(next);
          }}
        />
      )}
      {page.data && rows?.length === 0 && (
        <NoDeadLetters stream={stream} page={page.data} isFiltered={given.length > 0 || after !== null} />
      )}
      {page.data && (page.data.next || after) && (
        <nav class="pages" aria-label="Pages">
          <span class="faint">{given.length > 0 && `${countOf(page.data.searched, 'dead letter')} searched`}</span>
          {after && (
            <a class="button" href={href('dead-letters', { ...filter })}>
              To the start
            </a>
          )}
          {page.data.next && (
            <a class="button" href={href('dead-letters', { ...filter, after: page.data.next })}>
              {page.data.deadLetters.length === 0 ? 'Search on' : 'Next page'}
            </a>
          )}
        </nav>
      )}
      {planned && <ChangeDialog planned={planned} onClose={() => setPlanned(null)} onDone={done} />}
    </>
  );
}

function DeadLetterFilters({ filter, isFiltered }: { filter: DeadLetterFilter; isFiltered: boolean }): JSX.Element {
  const { stream } = filter;
  return (
    <Filters
      label="Dead letters"
      hrefFor={(values) => href('dead-letters', { stream, ...values })}
      clearHref={isFiltered ? href('dead-letters', { stream }) : undefined}
    >
      <TextField label="Reason" name="reason" value={filter.reason ?? null} placeholder="failed 5 times" />
      <TextField label="Error" name="error" value={filter.error ?? null} placeholder="TypeError" />
      <TextField label="Group" name="group" value={filter.group ?? null} placeholder="billing" />
      <TimeField label="Since" name="since" value={filter.since ?? null} />
      <TimeField label="Until" name="until" value={filter.until ?? null} />
      <TextField
        label="Stored in"
        name="deadLetterStream"
        value={filter.deadLetterStream ?? null}
        placeholder={`${stream}.dead`}
      />
    </Filters>
  );
}

interface ToolbarProps {
  readonly chosen: number;
  readonly isFiltered: boolean;
  readonly plan: (way: Way) => void;
}

function Toolbar({ chosen, isFiltered, plan }: ToolbarProps): JSX.Element | null {
  const current = useStore(session);
  if (!current) return null;
  if (current.readOnly) {
    return (
      <p class="note outside">
        The console is read-only. With the option <code>readOnly: false</code>, dead letters can be redriven and deleted
        here.
      </p>
    );
  }
  const which = chosen > 0 ? `${formatCount(chosen)} selected` : isFiltered ? 'all that match' : 'all';
  return (
    <div class="toolbar">
      <button type="button" class="button primary" onClick={() => plan('redrive')}>
        Redrive {which}…
      </button>
      <button type="button" class="button danger" onClick={() => plan('delete')}>
        Delete {which}…
      </button>
    </div>
  );
}

interface DeadLetterTableProps {
  readonly filter: DeadLetterFilter;
  readonly rows: readonly DeadLetterRow[] | null;
  readonly isLoading: boolean;
  readonly selected: ReadonlySet<string>;
  readonly select: (ids: readonly string[], isSelected: boolean) => void;
}

function DeadLetterTable({ filter, rows, isLoading, selected, select }: DeadLetterTableProps): JSX.Element {
  const { stream, deadLetterStream } = filter;
  const all = (rows ?? []).map(({ id }) => id);
  const count = all.filter((id) => selected.has(id)).length;
  const isReadOnly = useStore(session)?.readOnly ?? true;
  const selection: Column<DeadLetterRow> = {
    key: 'select',
    label: 'Selected',
    width: '2.75rem',
    head: (
      <input
        type="checkbox"
        aria-label="Select all on this page"
        checked={count > 0 && count === all.length}
        indeterminate={count > 0 && count < all.length}
        onChange={(event) => select(all, event.currentTarget.checked)}
      />
    ),
    render: ({ id }) => (
      <input
        type="checkbox"
        aria-label={`Select ${id}`}
        checked={selected.has(id)}
        onChange={(event) => select([id], event.currentTarget.checked)}
      />
    ),
  };
  const columns: ReadonlyArray<Column<DeadLetterRow>> = [
    ...(isReadOnly ? [] : [selection]),
    {
      key: 'what',
      label: 'Error',
      render: ({ id, error, reason }) => (
        <>
          <a class="title" href={href('dead-letter', { stream, id, deadLetterStream })}>
            {error ? `${error.name}: ${error.message}` : (reason ?? 'Without a reason')}
          </a>
          {error && reason && <span class="second">{reason}</span>}
        </>
      ),
    },
    {
      key: 'group',
      label: 'Group',
      width: '10rem',
      render: ({ origin }) => origin?.group ?? <span class="faint">unknown</span>,
    },
    { key: 'payload', label: 'Payload', width: '24%', render: ({ payload }) => <PayloadPreview payload={payload} /> },
    {
      key: 'deliveries',
      label: 'Deliveries',
      width: '6.5rem',
      isFigure: true,
      render: ({ deliveries }) => formatCount(deliveries),
    },
    { key: 'time', label: 'Stored', width: '9rem', isFigure: true, render: ({ at }) => <Age at={at} /> },
  ];
  return (
    <Table
      caption={`Dead letters of ${stream}`}
      class={`dead-letters ${isLoading && rows ? 'stale' : ''}`}
      columns={columns}
      rows={rows}
      rowKey={({ id }) => id}
      isSelected={({ id }) => selected.has(id)}
      skeletons={6}
    />
  );
}

interface NoDeadLettersProps {
  readonly stream: string;
  readonly page: DeadLetterPage;
  readonly isFiltered: boolean;
}

function NoDeadLetters({ stream, page, isFiltered }: NoDeadLettersProps): JSX.Element {
  if (page.next) return <NoneInThisPart searched={countOf(page.searched, 'dead letter')} />;
  return isFiltered ? (
    <Empty title="No dead letter matches">
      <p>
        <a class="button" href={href('dead-letters', { stream })}>
          Clear the filter
        </a>
      </p>
    </Empty>
  ) : (
    <Empty title="No dead letters">
      <p>
        A message is stored here when its last attempt has failed: see the options <code>retry</code> and{' '}
        <code>deadLetter</code> of the server. If the option <code>deadLetter.stream</code> names another stream, enter
        it under “Stored in”.
      </p>
    </Empty>
  );
}
