// Parses the notifications of an app-server. Notifications with another structure are ignored.
import { NOTIFICATIONS, type Notification, type NotificationMethod } from './protocol.ts';

export function isRead(method: string): method is NotificationMethod {
  return Object.hasOwn(NOTIFICATIONS, method);
}

/**
 * One case per method, so that the compiler matches each method with its params. Undefined: the structure is unknown.
 */
export function toNotification(method: NotificationMethod, value: unknown): Notification | undefined {
  switch (method) {
    case 'item/started':
    case 'item/completed': {
      const { data } = NOTIFICATIONS[method].safeParse(value);
      return data && { method, params: data };
    }
    case 'item/agentMessage/delta':
    case 'item/commandExecution/outputDelta': {
      const { data } = NOTIFICATIONS[method].safeParse(value);
      return data && { method, params: data };
    }
    case 'item/reasoning/summaryTextDelta': {
      const { data } = NOTIFICATIONS[method].safeParse(value);
      return data && { method, params: data };
    }
    case 'item/reasoning/textDelta': {
      const { data } = NOTIFICATIONS[method].safeParse(value);
      return data && { method, params: data };
    }
    case 'thread/tokenUsage/updated': {
      const { data } = NOTIFICATIONS[method].safeParse(value);
      return data && { method, params: data };
    }
    case 'error': {
      const { data } = NOTIFICATIONS[method].safeParse(value);
      return data && { method, params: data };
    }
    case 'turn/completed': {
      const { data } = NOTIFICATIONS[method].safeParse(value);
      return data && { method, params: data };
    }
  }
}
