'use strict';

/**
 * Failures in the words of Prisma's own engine, because its clients act on them: prisma-client-py picks the exception
 * class by the P code, and LiteLLM reads codes and phrases to tell an outage (reconnect, answer 503) from bad data.
 *
 * The engine itself words whatever PostgreSQL answered. Here is the rest: no connection, a lost one, and none free in
 * time.
 */

/** A new connection could not be made; `cause` says why. */
class ConnectFailure extends Error {}

/** No connection became free in time; the database may be well. */
class PoolTimeout extends Error {}

/** A query took longer than the URL's socket_timeout. */
class QueryTimeout extends Error {}

/** SQLSTATEs after which a connection is gone: shut down by the server, or a protocol-level loss. */
const CONNECTION_LOST = new Set(['57P01', '57P02', '08000', '08003', '08006']);

const SOCKET_ERRORS = new Set(['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ECONNABORTED', 'EHOSTUNREACH', 'ENETUNREACH']);

/** What `pg` says, without a code, when the socket has closed under a query. */
const LOST_PHRASES = /^Connection terminated|not queryable|^Connection closed/;

/** @param {Error & {code?: string}} error of `pg` */
function isConnectionLoss(error) {
  return CONNECTION_LOST.has(error.code) || SOCKET_ERRORS.has(error.code) || LOST_PHRASES.test(error.message);
}

function userFacing(code, message, meta = {}) {
  return { is_panic: false, message, meta, error_code: code };
}

/** @param {Error & {code?: string}} cause why no connection could be made */
function connectFailure(cause, { host, port, user, database }) {
  switch (cause.code) {
    case '28000':
    case '28P01':
      return userFacing(
        'P1000',
        `Authentication failed against database server at \`${host}\`, the provided database credentials for \`${user}\` are not valid. (${cause.message})`,
        { database_host: host, database_user: user },
      );
    case '3D000':
      return userFacing(
        'P1003',
        `Database \`${database}\` does not exist on the database server at \`${host}:${port}\`.`,
        {
          database_name: database,
          database_host: host,
          database_port: port,
        },
      );
    case '53300':
      return userFacing('P2037', `Too many database connections opened: ${cause.message}`, {
        message: cause.message,
      });
    default: {
      const reason = cause.message || cause.code || cause.name; // an AggregateError of two refusals has no message
      return userFacing(
        'P1001',
        `Can't reach database server at \`${host}:${port}\`\n\nPlease make sure your database server is running at \`${host}:${port}\`. (${reason})`,
        { database_host: host, database_port: port },
      );
    }
  }
}

/**
 * @param {Error} error something that is not an answer of PostgreSQL to a statement
 * @param {{host: string, port: number, user: string, database: string, connectionLimit: number, poolWaitMs: number}}
 *   database
 * @returns {object} the engine's "user facing error"
 */
function describeFailure(error, database) {
  if (error instanceof ConnectFailure) return connectFailure(error.cause, database);
  if (error instanceof PoolTimeout) {
    const timeout = database.poolWaitMs / 1000;
    const limit = database.connectionLimit;
    return userFacing(
      'P2024',
      'Timed out fetching a new connection from the connection pool. More info: http://pris.ly/d/connection-pool ' +
        `(Current connection pool timeout: ${timeout}, connection limit: ${limit})`,
      { connection_limit: limit, timeout },
    );
  }
  if (error instanceof QueryTimeout) return userFacing('P1008', `Operations timed out: ${error.message}`);
  if (isConnectionLoss(error)) return userFacing('P1017', `Server has closed the connection. (${error.message})`);
  return { is_panic: false, message: `${error.name}: ${error.message}`, meta: {} };
}

/** The failure to get a transaction's connection within the client's max_wait. */
function transactionWaitFailure(waitMs) {
  return userFacing(
    'P2028',
    `Transaction API error: Unable to start a transaction in the given time. (max_wait: ${waitMs} ms)`,
    {
      error: 'Unable to start a transaction in the given time.',
    },
  );
}

/** A transaction that was never started here. */
function transactionNotFound() {
  const reason =
    'Transaction not found. Transaction ID is invalid, or refers to a transaction of another engine process.';
  return userFacing('P2028', `Transaction API error: ${reason}`, { error: reason });
}

/** A request that is not a query of this schema. */
function malformedRequest(message) {
  return userFacing('P2009', `Failed to validate the query: \`${message}\``, { query_validation_error: message });
}

/** An error of a reply, from its user-facing half. */
function errorEntry(failure) {
  return { error: failure.message, user_facing_error: failure };
}

/**
 * HTTP status of a failed transaction request, as Prisma's server chooses it.
 *
 * @param {{error_code?: string, message: string}} failure
 */
function transactionStatus(failure) {
  if (failure.error_code !== 'P2028') return 500;
  if (/Unable to start a transaction in the given time/.test(failure.message)) return 504;
  if (/Transaction not found/.test(failure.message)) return 404;
  if (/Transaction already closed/.test(failure.message)) return 422;
  return 500;
}

module.exports = {
  ConnectFailure,
  PoolTimeout,
  QueryTimeout,
  isConnectionLoss,
  describeFailure,
  transactionWaitFailure,
  transactionNotFound,
  malformedRequest,
  errorEntry,
  transactionStatus,
};
