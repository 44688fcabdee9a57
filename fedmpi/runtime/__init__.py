"""The machine below the language: plans, the executor, MPI."""

from fedmpi.runtime.asynchronous import AsyncContext as AsyncContext
from fedmpi.runtime.client_states import client_data as client_data
from fedmpi.runtime.client_states import gather as gather
from fedmpi.runtime.context import MpiContext as MpiContext
from fedmpi.runtime.context import client_data_from_arrays as client_data_from_arrays
from fedmpi.runtime.context import is_server as is_server
from fedmpi.runtime.context import last_reports as last_reports
from fedmpi.runtime.context import replicate as replicate
from fedmpi.runtime.plan.decision import compiled_only as compiled_only
from fedmpi.runtime.plan.dropping import Dropped as Dropped
from fedmpi.runtime.plan.dropping import on_client_error as on_client_error
from fedmpi.runtime.reference import ReferenceContext as ReferenceContext
from fedmpi.runtime.reports import CallReport as CallReport
from fedmpi.runtime.reports import last_report as last_report
from fedmpi.runtime.show.drawing import draw as draw
from fedmpi.runtime.show.explanation import explain as explain
from fedmpi.runtime.show.plan_text import plan as plan
