// Every method, one line each; the only barrel. A new method is one file and one line here.
export { apply } from './apply.ts';
export { authTicket } from './auth.ticket.ts';
export { bffProxy } from './bff.proxy.ts';
export { conversationCancel } from './conversation.cancel.ts';
export { conversationDelete } from './conversation.delete.ts';
export { conversationHistory } from './conversation.history.ts';
export { conversationList } from './conversation.list.ts';
export { conversationPrompt } from './conversation.prompt.ts';
export { conversationResume } from './conversation.resume.ts';
export { conversationStatus } from './conversation.status.ts';
export { deploymentList } from './deployment.list.ts';
export { eventsList } from './events.list.ts';
export { eventsSubscribe } from './events.subscribe.ts';
export { eventsUnsubscribe } from './events.unsubscribe.ts';
export { exec } from './exec.ts';
export { proto } from './proto.ts';
export { rpcDiscover } from './rpc.discover.ts';
