/** Access tokens of connected FlowAccount businesses, from your FlowAccount Connect stack. */

export type { Logger } from "./api.js";
export {
  FLOWACCOUNT,
  FlowAccountConnect,
  type CallOptions,
  type ConnectionsOptions,
  type FlowAccountConnectOptions,
  type FlowAccountFetchOptions,
  type ListOptions,
  type Reconnect,
  type TokenOptions,
} from "./client.js";
export {
  AccessDenied,
  ConnectionNotFound,
  FlowAccountConnectError,
  HostNotAllowed,
  InvalidAnswer,
  InvalidArgument,
  InvalidSignature,
  NotConfigured,
  Problem,
  ReauthorizationRequired,
  TemporarilyUnavailable,
  type Denial,
} from "./errors.js";
export type {
  AccessToken,
  Connection,
  ConnectionStatus,
  ConnectLink,
  Environment,
  HistoryEntry,
  TokenStatus,
} from "./results.js";
export type { AwsCredentials, AwsCredentialsProvider } from "./signing.js";
export * as webhooks from "./webhooks.js";
