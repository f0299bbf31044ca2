import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import type { DelayedCancel, DelayedPage, DelayedRow } from '../../src/api.js';
import { get, post, session, useLoaded } from '../data/client.js';
import { formatBytes } from '../data/figures.js';
import { href, usePlace } from '../data/router.js';
import { useStore } from '../data/store.js';
import { formatDateTime } from '../data/time.js';
import { Confirm } from '../ui/confirm.js';
import { Icon } from '../ui/icon.js';
import { Empty, FailureBox, tell } from '../ui/notices.js';
import { PayloadPreview } from '../ui/payload.js';
import { Table } from '../ui/table.js';
import type { Column } from '../ui/table.js';
import { Age, Moment } from '../ui/time.js';

export function DelayedTab({ stream }: { stream: string }): JSX.Element {
  const { query } = usePlace();
  const after = query.get('after');
  const page = useLoaded(stream, after ?? '', (signal) => get<DelayedPage>('delayed', { stream, after }, signal));
  const [cancelling, setCancelling] = useState<DelayedRow | null>(null);
  const isReadOnly = useStore(session)?.readOnly ?? true;
  const rows = page.data?.delayed ?? null;

  const cancel = async ({ shard, id }: DelayedRow): Promise<void> => {
    const change: DelayedCancel = { stream, shard, id };
    const { cancelled } = await post<{ cancelled: boolean }>('delayed/cancel', change);
    tell(
      cancelled ? 'The delayed message was cancelled.' : 'Too late: the message is in the stream already.',
      !cancelled,
    );
    setCancelling(null);
    page.reload();
  };
  const action: Column<DelayedRow> = {
    key: 'action',
    label: 'Change',
    head: <span class="hidden">Change</span>,
    width: '6.5rem',
    isFigure: true,
    render: (row) => (
      <button type="button" class="button small" aria-label={`Cancel ${row.id}`} onClick={() => setCancelling(row)}>
        Cancel…
      </button>
    ),
  };
  const columns: ReadonlyArray<Column<DelayedRow>> = [
    { key: 'due', label: 'Due', width: '9rem', render: ({ deliverAt }) => <Age at={deliverAt} /> },
    { key: 'time', label: 'Time', width: '12rem', render: ({ deliverAt }) => <Moment at={deliverAt} /> },
    {
      key: 'id',
      label: 'Id',
      width: '16rem',
      render: ({ id }) => (
        <span class="mono title" title={id}>
          {id}
        </span>
      ),
    },
    { key: 'payload', label: 'Payload', render: ({ payload }) => <PayloadPreview payload={payload} /> },
    {
      key: 'size',
      label: 'Size',
      width: '5.5rem',
      isFigure: true,
      render: ({ payload }) => formatBytes(payload.bytes),
    },
    ...(isReadOnly ? [] : [action]),
  ];
  return (
    <>
      <div class="toolbar">
        <button type="button" class="button" disabled={page.isLoading} onClick={page.reload}>
          <Icon name="refresh" />
          Reload
        </button>
      </div>
      {page.failure && <FailureBox failure={page.failure} retry={page.reload} />}
      {!page.failure && rows?.length !== 0 && (
        <Table
          caption={`Delayed messages of ${stream}`}
          class="delayed"
          columns={columns}
          rows={rows}
          rowKey={({ id, shard }) => `${shard} ${id}`}
          skeletons={4}
        />
      )}
      {rows?.length === 0 && (
        <Empty title="No delayed messages">
          <p>
            A message that is sent with <code>delay</code> or <code>deliverAt</code> waits here until it is due, then
            goes to the stream.
          </p>
        </Empty>
      )}
      {page.data && (page.data.next || after) && (
        <nav class="pages" aria-label="Pages">
          {after && (
            <a class="button" href={href('delayed', { stream })}>
              To the start
            </a>
          )}
          {page.data.next && (
            <a class="button" href={href('delayed', { stream, after: page.data.next })}>
              Later ones
            </a>
          )}
        </nav>
      )}
      {cancelling && (
        <Confirm<null>
          title="Cancel a delayed message"
          action="Cancel the message"
          dismissal="Keep the message"
          isDangerous
          describe={() => (
            <p>
              The message that is due at <strong>{formatDateTime(cancelling.deliverAt)}</strong> would be deleted. No
              group would receive it.
            </p>
          )}
          run={() => cancel(cancelling)}
          onClose={() => setCancelling(null)}
        />
      )}
    </>
  );
}
